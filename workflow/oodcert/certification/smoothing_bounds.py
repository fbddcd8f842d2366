"""Bounds on smoothed scores over an l2 ball, from draws s(x + δ_i), δ_i ~ N(0, sigma² I). numpy and scipy only.

Every bound, lower or upper, is one-sided at level 1 - alpha over the draws. It holds for all x' with ‖x' - x‖₂ ≤ R at
once. Radii [R] are at least 0, in the scale of sigma.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import bdtrc, betaincinv, ndtr, ndtri

from oodcert.certification.cdf_bands import cdf_band
from oodcert.certification.mean_intervals import BoundPair, mean_bounds
from oodcert.config.method_specs import RANGE_FREE_BOUNDS
from oodcert.errors import InputError

BOUNDS = ("percentile", "cdf", "gaussian", "lipschitz", "vote")


def percentile_bounds(
    ordered: np.ndarray, sigma: float, radii: Sequence[float], alpha: float, p: float = 0.5
) -> BoundPair:
    """Bounds on the p-quantile of s(x' + δ), for any score ("median smoothing").

    By the Gaussian isoperimetric inequality the quantile at x' (any, where it is not unique) lies between the
    Φ(Φ⁻¹(p) ∓ R/sigma)-quantiles of s(x + δ). Each of those is bounded by an order statistic, whose rank a binomial
    tail gives.

    Args:
        ordered: Draws [..., n], sorted ascending.
        sigma: Standard deviation of the noise.
        radii: l2 radii [R].
        alpha: Error probability of each bound.
        p: The quantile, in (0, 1).

    Returns:
        (lower, upper) [..., R]; -inf or +inf where no order statistic qualifies.

    Source: Chiang et al. 2020, https://arxiv.org/abs/2007.03730
    """
    below, above = percentile_ranks(ordered.shape[-1], sigma, radii, alpha, p)
    padded = np.concatenate(
        [np.full((*ordered.shape[:-1], 1), -np.inf), ordered, np.full((*ordered.shape[:-1], 1), np.inf)], axis=-1
    )
    return padded[..., below], padded[..., above]


def percentile_ranks(
    n: int, sigma: float, radii: Sequence[float], alpha: float, p: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of the order statistics that `percentile_bounds` takes of n draws.

    Args:
        n: Number of draws.
        sigma: Standard deviation of the noise.
        radii: l2 radii [R].
        alpha: Error probability of each bound.
        p: The quantile, in (0, 1).

    Returns:
        (lower, upper) [R], ranks from 1 to n; 0 and n + 1 stand for none.
    """
    shift = np.asarray(radii, np.float64) / sigma
    upper = _upper_rank(n, tuple(ndtr(ndtri(p) + shift)), alpha)
    lower = n + 1 - _upper_rank(n, tuple(ndtr(ndtri(1 - p) + shift)), alpha)
    return lower, upper


@lru_cache(maxsize=64)
def _upper_rank(n: int, q: tuple[float, ...], alpha: float) -> np.ndarray:
    """The smallest rank k whose order statistic is ≥ each q-quantile with probability ≥ 1 - alpha; n + 1 if none.

    The number of draws below the q-quantile is at most Binomial(n, q). So P(s_(k) < quantile) ≤ 1 - CDF(k - 1; n, q).
    """
    failing = bdtrc(np.arange(n), n, np.array(q)[:, None])  # 1 - CDF(k - 1), for k = 1 .. n
    ranks = 1 + (failing > alpha).sum(axis=1)
    ranks.setflags(write=False)
    return ranks


def cdf_bounds(
    ordered: np.ndarray, sigma: float, radii: Sequence[float], alpha: float, band: str = "berk-jones"
) -> BoundPair:
    """Bounds on E s(x' + δ), s in [0, 1], from a band around the distribution of s(x + δ).

    E s(x' + δ) = ∫ P(s(x' + δ) > t) dt, and each of these probabilities rises by the gaussian bound at most. With
    infinitely many draws this is never looser than the gaussian bound on the mean, since Φ(Φ⁻¹(·) + c) is concave for
    c ≥ 0.

    Args:
        ordered: Draws [..., n], sorted ascending.
        sigma: Standard deviation of the noise.
        radii: l2 radii [R].
        alpha: Error probability of each bound.
        band: Kind of band (see oodcert.certification.cdf_bands).

    Returns:
        (lower, upper) [..., R].

    Raises:
        InputError: The band is unknown, or does not hold at this alpha.

    Source: Kumar et al. 2020, https://arxiv.org/abs/2009.08061
    """
    ranks, levels = cdf_band(band, ordered.shape[-1], alpha)
    shift = np.asarray(radii, np.float64) / sigma
    exceeding = ndtr(ndtri(1 - levels[:, None]) + shift)  # [m, R], bounds on P(s(x' + δ) > t) for t from rank to rank

    def upper(scores: np.ndarray) -> np.ndarray:  # [..., n] ascending
        edges = np.concatenate([scores[..., ranks - 1], np.ones((*scores.shape[:-1], 1))], axis=-1)
        return edges[..., :1] + np.diff(edges) @ exceeding

    return 1 - upper(1 - ordered[..., ::-1]), upper(ordered)


def gaussian_bounds(
    mean_lower: np.ndarray | float, mean_upper: np.ndarray | float, sigma: float, radii: Sequence[float]
) -> BoundPair:
    """Bounds on E s(x' + δ), s in [0, 1]: Φ(Φ⁻¹(S) ∓ R/sigma), S a bound on E s(x + δ).

    Tight: a step along one direction attains it.

    Args:
        mean_lower: Lower bounds [...] on E s(x + δ), whose confidence the result keeps.
        mean_upper: Upper bounds [...] on it.
        sigma: Standard deviation of the noise.
        radii: l2 radii [R].

    Returns:
        (lower, upper) [..., R].

    Source: Levine et al. 2019, https://arxiv.org/abs/1910.10783;
        Salman et al. 2019, Lemma 2, https://arxiv.org/abs/1906.04584
    """
    shift = np.asarray(radii, np.float64) / sigma
    lower = ndtr(ndtri(np.asarray(mean_lower)[..., None]) - shift)
    upper = ndtr(ndtri(np.asarray(mean_upper)[..., None]) + shift)
    return lower, upper


def lipschitz_bounds(
    mean_lower: np.ndarray | float, mean_upper: np.ndarray | float, sigma: float, radii: Sequence[float]
) -> BoundPair:
    """Bounds on E s(x' + δ), s in [0, 1]: S ∓ R / (sigma sqrt(2π)), clipped to [0, 1], S a bound on E s(x + δ).

    The constant is the largest slope of the gaussian bound, and a step attains it. (Lemma 1 of the source gives
    sqrt(2/π)/sigma, twice as much.) Never tighter than the gaussian bound.

    Args:
        mean_lower: Lower bounds [...] on E s(x + δ), whose confidence the result keeps.
        mean_upper: Upper bounds [...] on it.
        sigma: Standard deviation of the noise.
        radii: l2 radii [R].

    Returns:
        (lower, upper) [..., R].

    Source: Salman et al. 2019, Lemma 1, https://arxiv.org/abs/1906.04584
    """
    change = np.asarray(radii, np.float64) / (sigma * np.sqrt(2 * np.pi))
    lower, upper = np.asarray(mean_lower)[..., None] - change, np.asarray(mean_upper)[..., None] + change
    return np.clip(lower, 0, 1), np.clip(upper, 0, 1)


def proportion_bounds(successes: np.ndarray | int, n: int, alpha: float) -> BoundPair:
    """Clopper-Pearson bounds on a probability, from a count.

    Args:
        successes: How many [...] of n draws, from 0 to n.
        n: Number of draws.
        alpha: Error probability of each bound.

    Returns:
        (lower, upper) [...]. An upper bound too close to 1 for float64 is rounded up.

    Source: Clopper and Pearson 1934, https://doi.org/10.1093/biomet/26.4.404
    """
    lower, missing = _proportion_tails(successes, n, alpha)
    return lower, _complement(missing)


def _proportion_tails(successes: np.ndarray | int, n: int, alpha: float) -> BoundPair:
    """The lower bound, and one minus the upper bound, which may be too small for 1 - itself to be exact."""
    k = np.asarray(successes, np.float64)
    lower = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, alpha), 0.0)
    missing = np.where(k < n, betaincinv(np.maximum(n - k, 1), k + 1, alpha), 0.0)
    return lower, missing


def _complement(missing: np.ndarray) -> np.ndarray:
    """1 - missing, rounded up: an upper bound stays one, however little it misses to 1."""
    upper = 1 - missing
    return np.where(1 - upper > missing, np.nextafter(upper, 2), upper)


def vote_bounds(accepted: np.ndarray | int, n: int, sigma: float, radii: Sequence[float], alpha: float) -> BoundPair:
    """Bounds on P(s(x' + δ) ≥ threshold), for any score: the gaussian bound of a proportion.

    Where the upper bound is below 1/2, the majority vote rejects every x' within R.

    Args:
        accepted: How many [...] of n draws reach the threshold.
        n: Number of draws.
        sigma: Standard deviation of the noise.
        radii: l2 radii [R].
        alpha: Error probability of each bound.

    Returns:
        (lower, upper) [..., R].

    Source: Cohen et al. 2019, https://arxiv.org/abs/1902.02918
    """
    lower, missing = _proportion_tails(accepted, n, alpha)
    shift = np.asarray(radii, np.float64) / sigma
    return ndtr(ndtri(lower[..., None]) - shift), _complement(ndtr(ndtri(missing[..., None]) - shift))


def vote_radius(successes: np.ndarray | int, n: int, sigma: float, alpha: float) -> np.ndarray:
    """Certified l2 radius of a majority vote: sigma Φ⁻¹(p̲), p̲ the Clopper-Pearson lower bound.

    Args:
        successes: Votes [...] for the winner among n fresh draws.
        n: Number of these draws.
        sigma: Standard deviation of the noise.
        alpha: Error probability of the radius.

    Returns:
        Radii [...], rounded towards zero in the last place; 0 where p̲ ≤ 1/2 (abstain).

    Source: Cohen et al. 2019, https://arxiv.org/abs/1902.02918
    """
    lower = proportion_bounds(successes, n, alpha)[0]
    radius = np.nextafter(sigma * ndtri(lower), 0)
    return np.where(lower > 0.5, radius, 0.0)


class ScoreBounds(NamedTuple):
    """What bounds of one kind say: the value at x without confidence [...], and bounds on it [..., R] each."""

    estimate: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def score_bounds(
    bounds: Sequence[str],
    draws: np.ndarray,
    sigma: float,
    radii: Sequence[float],
    alpha: float,
    *,
    p: float = 0.5,
    mean: str = "betting",
    band: str = "berk-jones",
    threshold: float | None = None,
) -> dict[str, ScoreBounds]:
    """Several kinds of bounds at once.

    Args:
        bounds: Kinds, of BOUNDS.
        draws: Scores [..., n] in the order they were drawn.
        sigma: Standard deviation of the noise.
        radii: l2 radii [R], at least 0.
        alpha: Error probability of each bound.
        p: Quantile of the percentile bound.
        mean: Kind of mean bound below gaussian and lipschitz (see oodcert.certification.mean_intervals).
        band: Kind of band of cdf (see oodcert.certification.cdf_bands).
        threshold: Of the vote bound.

    Returns:
        Kind -> its bounds. The estimate is the value at x that the bound is about, without confidence.

    Raises:
        InputError: A kind or an option is unknown, or a kind needs scores in [0, 1] and they are not.
    """
    draws = np.asarray(draws, np.float64)
    n, ordered = draws.shape[-1], np.sort(draws, axis=-1)
    range_free = set(bounds) <= set(RANGE_FREE_BOUNDS)
    mean_lower, mean_upper = (np.nan, np.nan) if range_free else mean_bounds(mean, draws, alpha)
    results = {}
    for bound in bounds:
        if bound == "percentile":
            estimate = ordered[..., max(1, int(np.ceil(p * n))) - 1].copy()  # a view would keep all draws
            sides = percentile_bounds(ordered, sigma, radii, alpha, p)
        elif bound == "cdf":
            estimate, sides = draws.mean(-1), cdf_bounds(ordered, sigma, radii, alpha, band)
        elif bound == "gaussian":
            estimate, sides = draws.mean(-1), gaussian_bounds(mean_lower, mean_upper, sigma, radii)
        elif bound == "lipschitz":
            estimate, sides = draws.mean(-1), lipschitz_bounds(mean_lower, mean_upper, sigma, radii)
        elif bound == "vote":
            accepted = (draws >= threshold).sum(-1)
            estimate, sides = accepted / n, vote_bounds(accepted, n, sigma, radii, alpha)
        else:
            raise InputError(f"Unknown bound {bound!r}: use {', '.join(BOUNDS)}.")
        results[bound] = ScoreBounds(estimate, *sides)
    return results
