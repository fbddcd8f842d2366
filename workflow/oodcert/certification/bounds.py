"""Bounds on smoothed scores over an l2 ball. numpy and scipy only; every bound is one-sided at level 1 - alpha."""

from functools import cache

import numpy as np
from scipy.special import bdtr, betaincinv, ndtr, ndtri

from oodcert.errors import InputError


def percentile_bounds(ordered, sigma, radii, alpha, p=0.5):
    """Bounds on the p-quantile of s(x' + δ), δ ~ N(0, sigma² I), for every ‖x' - x‖₂ ≤ R (Chiang et al. 2020).

    ordered [..., n]: scores s(x + δ_i) of n independent draws, sorted ascending, bounded or not. radii [R].
    Returns (lower, upper) [..., R]. By the Gaussian isoperimetric inequality the quantile at x' lies between the
    quantiles of s(x + δ) at Φ(Φ⁻¹(p) ∓ R/sigma); each of those is bounded by the order statistic whose rank a binomial
    tail gives. With probability ≥ 1 - alpha over the draws, for each side and radius. Where no order statistic
    qualifies the bound is -inf or +inf.
    """
    n = ordered.shape[-1]
    shift = np.asarray(radii, np.float64) / sigma
    upper_rank = _upper_rank(n, tuple(ndtr(ndtri(p) + shift)), alpha)
    lower_rank = n + 1 - _upper_rank(n, tuple(ndtr(ndtri(1 - p) + shift)), alpha)
    padded = np.concatenate(
        [np.full((*ordered.shape[:-1], 1), -np.inf), ordered, np.full((*ordered.shape[:-1], 1), np.inf)], axis=-1
    )
    return padded[..., lower_rank], padded[..., upper_rank]


@cache
def _upper_rank(n, q, alpha):
    """The smallest rank k whose order statistic is ≥ each q-quantile with probability ≥ 1 - alpha; n + 1 if none.

    The number of draws below the q-quantile is at most Binomial(n, q), so P(s_(k) < quantile) ≤ 1 - CDF(k - 1; n, q).
    """
    cdf = bdtr(np.arange(n), n, np.array(q)[:, None])  # of k - 1, for k = 1 .. n
    return 1 + (cdf < 1 - alpha).sum(axis=1)


def hoeffding_bounds(mean, n, alpha):
    """Bounds on the expectation of a [0, 1] variable from the mean of n draws (Hoeffding 1963): (lower, upper)."""
    width = np.sqrt(np.log(1 / alpha) / (2 * n))
    return np.clip(mean - width, 0, 1), np.clip(mean + width, 0, 1)


def gaussian_bounds(mean_lower, mean_upper, sigma, radii):
    """Bounds on E s(x' + δ) for every ‖x' - x‖₂ ≤ R, s in [0, 1] (Levine et al. 2019; Salman et al. 2019, Lemma 2).

    mean_lower, mean_upper [...]: bounds on E s(x + δ), whose confidence the result keeps. Returns (lower, upper)
    [..., R]: Φ(Φ⁻¹(S) ∓ R/sigma).
    """
    shift = np.asarray(radii, np.float64) / sigma
    lower = ndtr(ndtri(np.asarray(mean_lower)[..., None]) - shift)
    upper = ndtr(ndtri(np.asarray(mean_upper)[..., None]) + shift)
    return lower, upper


def vote_radius(successes, n, sigma, alpha):
    """Certified l2 radius of a majority vote (Cohen et al. 2019): sigma Φ⁻¹(p̲), p̲ the Clopper-Pearson lower bound.

    successes: votes for the winner among n fresh draws. Returns the radius, rounded towards zero in the last place;
    0 where p̲ ≤ 1/2 (abstain).
    """
    successes = np.asarray(successes, np.float64)
    lower = np.where(successes > 0, betaincinv(np.maximum(successes, 1), n - successes + 1, alpha), 0.0)
    radius = np.nextafter(sigma * ndtri(lower), 0)
    return np.where(lower > 0.5, radius, 0.0)


def score_bounds(bound, ordered, sigma, radii, alpha):
    """(estimate, lower, upper) of one kind of bound from sorted scores [n] of one image: a float and two arrays [R]."""
    n = ordered.shape[-1]
    if bound == "percentile":
        return (ordered[-(-n // 2) - 1], *percentile_bounds(ordered, sigma, radii, alpha))
    if bound == "gaussian":
        if ordered[0] < 0 or ordered[-1] > 1:
            raise InputError(
                f"The gaussian bound needs scores in [0, 1], these span [{ordered[0]:g}, {ordered[-1]:g}]: "
                "use the percentile bound, which needs no range."
            )
        mean = ordered.mean(dtype=np.float64)
        return (mean, *gaussian_bounds(*hoeffding_bounds(mean, n, alpha), sigma, radii))
    raise InputError(f"Unknown bound {bound!r}: use percentile or gaussian.")
