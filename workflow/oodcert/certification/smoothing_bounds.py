"""Bounds on smoothed scores over an l2 ball, from draws s(x + δ_i), δ_i ~ N(0, sigma² I). numpy and scipy only.

Every bound (lower, upper) is one-sided at level 1 - alpha over the draws, and holds for all ‖x' - x‖₂ ≤ R at once.
radii: [R], not negative, in the scale of sigma.
"""

from functools import lru_cache

import numpy as np
from scipy.special import bdtrc, betaincinv, ndtr, ndtri

from oodcert.certification import WITHOUT_RANGE
from oodcert.certification.cdf_bands import cdf_band
from oodcert.certification.mean_intervals import mean_bounds
from oodcert.errors import InputError

BOUNDS = ("percentile", "cdf", "gaussian", "lipschitz", "vote")


def percentile_bounds(ordered, sigma, radii, alpha, p=0.5):
    """Bounds on the p-quantile of s(x' + δ) (Chiang et al. 2020, "median smoothing"), for any score.

    ordered [..., n]: the draws, sorted ascending. Returns (lower, upper) [..., R]. By the Gaussian isoperimetric
    inequality the quantile at x' (any, where it is not unique) lies between the Φ(Φ⁻¹(p) ∓ R/sigma)-quantiles of
    s(x + δ); each of those is bounded by the order statistic whose rank a binomial tail gives. -inf or +inf where no
    order statistic qualifies.
    """
    below, above = percentile_ranks(ordered.shape[-1], sigma, radii, alpha, p)
    padded = np.concatenate(
        [np.full((*ordered.shape[:-1], 1), -np.inf), ordered, np.full((*ordered.shape[:-1], 1), np.inf)], axis=-1
    )
    return padded[..., below], padded[..., above]


def percentile_ranks(n, sigma, radii, alpha, p=0.5):
    """Ranks (lower, upper) [R] of the order statistics that percentile_bounds takes, 1 to n; 0 or n + 1 for none."""
    shift = np.asarray(radii, np.float64) / sigma
    upper = _upper_rank(n, tuple(ndtr(ndtri(p) + shift)), alpha)
    lower = n + 1 - _upper_rank(n, tuple(ndtr(ndtri(1 - p) + shift)), alpha)
    return lower, upper


@lru_cache(maxsize=64)
def _upper_rank(n, q, alpha):
    """The smallest rank k whose order statistic is ≥ each q-quantile with probability ≥ 1 - alpha; n + 1 if none.

    The number of draws below the q-quantile is at most Binomial(n, q), so P(s_(k) < quantile) ≤ 1 - CDF(k - 1; n, q).
    """
    failing = bdtrc(np.arange(n), n, np.array(q)[:, None])  # 1 - CDF(k - 1), for k = 1 .. n
    ranks = 1 + (failing > alpha).sum(axis=1)
    ranks.setflags(write=False)
    return ranks


def cdf_bounds(ordered, sigma, radii, alpha, band="berk-jones"):
    """Bounds on E s(x' + δ), s in [0, 1], from a band around the distribution of s(x + δ) (Kumar et al. 2020).

    ordered [..., n]: the draws, sorted ascending; band: see oodcert.certification.cdf_bands. Returns (lower, upper)
    [..., R]. E s(x') = ∫ P(s(x' + δ) > t) dt, and each of these probabilities rises by the gaussian bound at most. With
    infinitely many draws never looser than the gaussian bound on the mean, since Φ(Φ⁻¹(·) + c) is concave for c ≥ 0.
    """
    ranks, levels = cdf_band(band, ordered.shape[-1], alpha)
    shift = np.asarray(radii, np.float64) / sigma
    exceeding = ndtr(ndtri(1 - levels[:, None]) + shift)  # [m, R], bounds on P(s(x' + δ) > t) for t from rank to rank

    def upper(scores):  # [..., n] ascending
        edges = np.concatenate([scores[..., ranks - 1], np.ones((*scores.shape[:-1], 1))], axis=-1)
        return edges[..., :1] + np.diff(edges) @ exceeding

    return 1 - upper(1 - ordered[..., ::-1]), upper(ordered)


def gaussian_bounds(mean_lower, mean_upper, sigma, radii):
    """Bounds on E s(x' + δ), s in [0, 1]: Φ(Φ⁻¹(S) ∓ R/sigma) (Levine et al. 2019; Salman et al. 2019, Lemma 2).

    mean_lower, mean_upper [...]: bounds on E s(x + δ), whose confidence the result keeps. Returns (lower, upper)
    [..., R]. Tight: a step along one direction attains it.
    """
    shift = np.asarray(radii, np.float64) / sigma
    lower = ndtr(ndtri(np.asarray(mean_lower)[..., None]) - shift)
    upper = ndtr(ndtri(np.asarray(mean_upper)[..., None]) + shift)
    return lower, upper


def lipschitz_bounds(mean_lower, mean_upper, sigma, radii):
    """Bounds on E s(x' + δ), s in [0, 1]: S ∓ R / (sigma sqrt(2π)), clipped to [0, 1].

    The constant is the largest slope of the gaussian bound (Salman et al. 2019, Lemma 1, give sqrt(2/π)/sigma, twice
    as much), and a step attains it. Never tighter than the gaussian bound. Arguments and result as there.
    """
    change = np.asarray(radii, np.float64) / (sigma * np.sqrt(2 * np.pi))
    lower, upper = np.asarray(mean_lower)[..., None] - change, np.asarray(mean_upper)[..., None] + change
    return np.clip(lower, 0, 1), np.clip(upper, 0, 1)


def proportion_bounds(successes, n, alpha):
    """Clopper-Pearson bounds on a probability from a count of n draws (Clopper and Pearson 1934): (lower, upper)."""
    k = np.asarray(successes, np.float64)
    lower = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, alpha), 0.0)
    upper = np.where(k < n, 1 - betaincinv(np.maximum(n - k, 1), k + 1, alpha), 1.0)
    return lower, upper


def vote_bounds(accepted, n, sigma, radii, alpha):
    """Bounds on P(s(x' + δ) ≥ threshold), for any score (Cohen et al. 2019): the gaussian bound of a proportion.

    accepted [...]: how many of n draws reach the threshold. Returns (lower, upper) [..., R]. Where the upper bound is
    below 1/2, the majority vote rejects every x' within R.
    """
    return gaussian_bounds(*proportion_bounds(accepted, n, alpha), sigma, radii)


def vote_radius(successes, n, sigma, alpha):
    """Certified l2 radius of a majority vote (Cohen et al. 2019): sigma Φ⁻¹(p̲), p̲ the Clopper-Pearson lower bound.

    successes: votes for the winner among n fresh draws. Returns the radius, rounded towards zero in the last place;
    0 where p̲ ≤ 1/2 (abstain).
    """
    lower = proportion_bounds(successes, n, alpha)[0]
    radius = np.nextafter(sigma * ndtri(lower), 0)
    return np.where(lower > 0.5, radius, 0.0)


def score_bounds(bounds, draws, sigma, radii, alpha, *, p=0.5, mean="betting", band="berk-jones", threshold=None):
    """Several kinds of bounds at once: dict from kind to (estimate [...], lower [..., R], upper [..., R]).

    bounds: kinds, of BOUNDS; draws [..., n] in the order they were drawn. p: the quantile of the percentile bound;
    mean: the mean bound below gaussian and lipschitz; band: that of cdf; threshold: that of vote. The estimate is the
    value at x that the bound is about, without confidence. Raises InputError on an unknown kind or option, and where a
    kind needs scores in [0, 1] and they are not.
    """
    draws, found = np.asarray(draws, np.float64), {}
    n, ordered = draws.shape[-1], np.sort(draws, axis=-1)
    of_mean = None if set(bounds) <= set(WITHOUT_RANGE) else mean_bounds(mean, draws, alpha)
    for bound in bounds:
        if bound == "percentile":
            middle = ordered[..., max(1, int(np.ceil(p * n))) - 1].copy()  # a view would keep all draws
            pair = middle, percentile_bounds(ordered, sigma, radii, alpha, p)
        elif bound == "cdf":
            pair = draws.mean(-1), cdf_bounds(ordered, sigma, radii, alpha, band)
        elif bound == "gaussian":
            pair = draws.mean(-1), gaussian_bounds(*of_mean, sigma, radii)
        elif bound == "lipschitz":
            pair = draws.mean(-1), lipschitz_bounds(*of_mean, sigma, radii)
        elif bound == "vote":
            accepted = (draws >= threshold).sum(-1)
            pair = accepted / n, vote_bounds(accepted, n, sigma, radii, alpha)
        else:
            raise InputError(f"Unknown bound {bound!r}: use {', '.join(BOUNDS)}.")
        found[bound] = pair[0], *pair[1]
    return found
