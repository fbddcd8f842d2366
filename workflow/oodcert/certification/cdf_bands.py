"""Simultaneous confidence bands for a distribution function, from the order statistics of n independent draws.

A band is (ranks [m], levels [m]). With probability ≥ 1 - alpha, F(s_(ranks[j])) ≥ levels[j] for all j at once, whatever
the distribution F of the draws. For a continuous F this says that uniform order statistics U_(k) stay above the levels.
Ties only help, since F(F⁻¹(U)) ≥ U. A band for the other side is the same band of the negated draws.
"""

from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv, gammaln, xlogy

from oodcert.errors import InputError

NEGLIGIBLE = 1e-40  # probability of a count that the recursion may drop
FEW, MANY = 10_000, 100_000  # draws whose exact levels of Berk and Jones foretell those of more
MOST = 1_000_000  # draws of a band of Berk and Jones; its level takes about ten seconds for these, more for more


@lru_cache(maxsize=64)
def cdf_band(kind: str, n: int, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """The band of one kind for n draws.

    "dkw": k/n - sqrt(log(1/alpha) / 2n) at every rank k (Dvoretzky et al. 1956). Its constant is that of Massart 1990,
    which needs alpha ≤ 1/2.

    "clopper-pearson": U_(k) is Beta(k, n - k + 1). The levels are its alpha/m-quantiles at m ranks (union bound).

    "berk-jones": gamma-quantiles at the same ranks, for the largest gamma at which the exact probability of falling
    below one of them is alpha (Berk and Jones 1979; Owen 1995). Tighter than the union bound at every rank.

    Args:
        kind: "dkw", "clopper-pearson" or "berk-jones".
        n: Number of draws.
        alpha: Error probability of the band.

    Returns:
        Ranks [m], ascending, from 1 to n, and levels [m].

    Raises:
        InputError: The kind is unknown, or does not hold at this alpha or for so many draws (see `check_band`).

    Source: Massart 1990, https://doi.org/10.1214/aop/1176990746;
        Clopper and Pearson 1934, https://doi.org/10.1093/biomet/26.4.404;
        Berk and Jones 1979, https://doi.org/10.1007/BF00533250
    """
    check_band(kind, n, alpha)
    if kind == "dkw":
        ranks = np.arange(1, n + 1)
        return ranks, np.maximum(ranks / n - np.sqrt(np.log(1 / alpha) / (2 * n)), 0)
    ranks = _ranks(n)
    if kind == "clopper-pearson":
        return ranks, _beta_quantiles(ranks, n, alpha / len(ranks))
    return ranks, _beta_quantiles(ranks, n, _berk_jones_level(n, alpha))


def check_band(kind: str, n: int, alpha: float) -> None:
    """Refuses a band that does not hold, or takes too long to compute.

    Args:
        kind: As of cdf_band.
        n: Number of draws.
        alpha: Error probability of the band.

    Raises:
        InputError: The kind is unknown, it is "dkw" and alpha > 1/2, or it is "berk-jones" of more than MOST draws.
    """
    if kind not in ("dkw", "clopper-pearson", "berk-jones"):
        raise InputError(f"Unknown band {kind!r}: use dkw, clopper-pearson or berk-jones.")
    if kind == "dkw" and alpha > 0.5:
        raise InputError(f"alpha = {alpha}: the dkw band holds for alpha ≤ 0.5, use another band or a smaller one.")
    if kind == "berk-jones" and n > MOST:
        raise InputError(
            f"n = {n}: the exact level of the berk-jones band takes too long beyond {MOST} draws, use fewer, or the "
            "band clopper-pearson or dkw."
        )


def crossing_probability(ranks: np.ndarray, levels: np.ndarray, n: int, negligible: float = NEGLIGIBLE) -> float:
    """P(U_(ranks[j]) < levels[j] for some j) for the order statistics of n uniform draws.

    The draws are a Poisson process of rate n that has n points. A recursion over the levels keeps the probability of
    every count that has not crossed (Noé 1972; Moscovich and Nadler 2017). What crosses is summed up, so that small
    results are as accurate as large ones: to a relative 1e-8 for n ≤ 10⁶, down to 1e-15.

    Args:
        ranks: [m], from 1 to n, not decreasing.
        levels: [m], in [0, 1], not decreasing.
        n: Number of draws.
        negligible: Counts of a smaller probability are dropped.

    Returns:
        The probability.

    Source: Moscovich and Nadler 2017, https://arxiv.org/abs/1503.04363
    """
    log_factorials = gammaln(np.arange(n + 1) + 1.0)

    def poisson(first: int, last: int, mean: float) -> np.ndarray:  # P(Poisson(mean) = first .. last)
        counts = np.arange(first, last + 1)
        return np.exp(xlogy(counts, mean) - log_factorials[first : last + 1] - mean)

    width = np.sqrt(-2 * np.log(negligible))  # Chernoff: P(Poisson(m) beyond m ± width √m, and width² above) is less
    whole = poisson(n, n, n)[0]
    state, offset, before, crossed = np.ones(1), 0, 0.0, 0.0  # state[i]: offset + i points so far, none too early
    for rank, level in zip(np.asarray(ranks).tolist(), np.asarray(levels).tolist(), strict=True):
        if level == before:  # no more than the rank before it asks
            continue
        rate = n * (level - before)
        least, most = (int(rate + side * width * np.sqrt(rate)) for side in (-1, 1))
        least, most = max(least, 0), min(most + int(width**2) + 1, n)
        state, before = np.convolve(state, poisson(least, most, rate)), level
        offset += least
        state = state[: n + 1 - offset]
        finishing = poisson(n + 1 - offset - len(state), n - offset, n * (1 - before))[::-1]
        reached = state * finishing / whole  # probability of every count, none too early, among n points
        early = max(rank - offset, 0)
        crossed += reached[early:].sum()
        kept = np.flatnonzero(reached[:early] > negligible)
        if kept.size == 0:
            break
        state, offset = state[kept[0] : kept[-1] + 1], offset + int(kept[0])
    return float(min(1, crossed))


def _ranks(n: int) -> np.ndarray:
    """Ranks from 1 to n, a quarter of the standard error of the empirical CDF apart, every rank in the tails."""
    ranks = [1]
    while ranks[-1] < n:
        k = ranks[-1]
        ranks.append(min(n, k + max(1, int(np.sqrt(k * (n - k) / n) / 4))))
    return np.array(ranks)


def _beta_quantiles(ranks: np.ndarray, n: int, gamma: float) -> np.ndarray:
    return betaincinv(ranks, n - ranks + 1, gamma)


@lru_cache(maxsize=64)
def _berk_jones_level(n: int, alpha: float) -> float:
    """The largest gamma, to a relative 1e-3, whose band is crossed with an exact probability of at most alpha."""
    ranks = _ranks(n)
    if len(ranks) == 1:
        return alpha

    def excess(log_gamma: float) -> float:
        crossing = crossing_probability(ranks, _beta_quantiles(ranks, n, np.exp(log_gamma)), n, 1e-16 * alpha)
        return np.log(crossing) - np.log(alpha) + 1e-7  # more than the rounding of the recursion

    if n > MANY:  # the logarithm of the level is nearly linear in log log n
        few, many = (np.log(_berk_jones_level(count, alpha)) for count in (FEW, MANY))
        beyond = np.log(np.log(n) / np.log(MANY)) / np.log(np.log(MANY) / np.log(FEW))
        root = many + beyond * (many - few)
        while not -1e-3 <= (missed := excess(root)) <= 0:
            root -= missed + 5e-4
        return float(np.exp(root))
    root = brentq(excess, np.log(alpha / len(ranks)) - 1e-3, np.log(alpha) + 1e-3, xtol=1e-3)
    while excess(root) > 0:
        root -= 5e-4
    return float(np.exp(root))
