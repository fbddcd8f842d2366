"""Simultaneous confidence bands for a distribution function, from the order statistics of n independent draws.

A band is (ranks [m], levels [m]): with probability ≥ 1 - alpha, F(s_(ranks[j])) ≥ levels[j] for all j at once, whatever
the distribution F of the draws. For a continuous F this says that uniform order statistics U_(k) stay above the levels;
ties only help, since F(F⁻¹(U)) ≥ U. A band for the other side is the same band of the negated draws.
"""

from functools import cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv
from scipy.stats import poisson

from oodcert.errors import InputError

NEGLIGIBLE = 1e-18  # probability mass that the recursion may drop, to the safe side


@cache
def cdf_band(kind, n, alpha):
    """The band of one kind: "dkw", "clopper-pearson" or "berk-jones". Raises InputError on another one.

    dkw: k/n - sqrt(log(1/alpha) / 2n) at every rank (Dvoretzky et al. 1956, with the constant of Massart 1990, which
    needs alpha ≤ 1/2). clopper-pearson: U_(k) is Beta(k, n - k + 1); its alpha/m-quantile at m ranks (union bound).
    berk-jones: the gamma-quantile at the same ranks, for the largest gamma at which the exact probability of staying
    above all of them is 1 - alpha (Berk and Jones 1979; Owen 1995); tighter than the union bound at every rank.
    """
    if kind == "dkw":
        if alpha > 0.5:
            raise InputError(f"alpha = {alpha}: the dkw band holds for alpha ≤ 0.5, use another band or a smaller one.")
        ranks = np.arange(1, n + 1)
        return ranks, np.maximum(ranks / n - np.sqrt(np.log(1 / alpha) / (2 * n)), 0)
    ranks = _ranks(n)
    if kind == "clopper-pearson":
        return ranks, _beta_quantiles(ranks, n, alpha / len(ranks))
    if kind == "berk-jones":
        return ranks, _beta_quantiles(ranks, n, _berk_jones_level(n, alpha))
    raise InputError(f"Unknown band {kind!r}: use dkw, clopper-pearson or berk-jones.")


def noncrossing_probability(ranks, levels, n):
    """P(U_(ranks[j]) ≥ levels[j] for all j) for the order statistics of n uniform draws; both [m], not decreasing.

    The draws are a Poisson process of rate n that has n points: a recursion over the levels keeps the probability of
    every count that has not crossed (Noé 1972; Moscovich and Nadler 2017). Dropped mass makes the result too small
    by less than 1e-12, never too large, up to float rounding.
    """
    state, offset, before = np.ones(1), 0, 0.0  # state[i]: probability of offset + i points so far, none too early
    for rank, level in zip(ranks, levels, strict=True):
        if level == before:  # no more than the rank before it asks
            continue
        rate = n * (level - before)
        steps = poisson.pmf(np.arange(int(rate + 10 * np.sqrt(rate) + 40)), rate)  # all but less than 1e-18 of it
        state = np.convolve(state, steps)[: rank - offset]
        kept = np.flatnonzero(state > NEGLIGIBLE)
        if kept.size == 0:
            return 0.0
        state, offset, before = state[kept[0] : kept[-1] + 1], offset + kept[0], level
    missing = n - offset - np.arange(len(state))
    return float(state @ poisson.pmf(missing, n * (1 - before)) / poisson.pmf(n, n))


def _ranks(n):
    """Ranks from 1 to n, a quarter of the standard error of the empirical CDF apart, every rank in the tails."""
    ranks = [1]
    while ranks[-1] < n:
        k = ranks[-1]
        ranks.append(min(n, k + max(1, int(np.sqrt(k * (n - k) / n) / 4))))
    return np.array(ranks)


def _beta_quantiles(ranks, n, gamma):
    return betaincinv(ranks, n - ranks + 1, gamma)


def _berk_jones_level(n, alpha):
    """The largest gamma, to a relative 1e-4, whose band has an exact noncrossing probability of at least 1 - alpha."""
    ranks = _ranks(n)
    if len(ranks) == 1:
        return alpha

    def excess(log_gamma):
        return noncrossing_probability(ranks, _beta_quantiles(ranks, n, np.exp(log_gamma)), n) - (1 - alpha)

    low, high = np.log(alpha / len(ranks)), np.log(alpha)
    root = brentq(excess, low, high, xtol=5e-5)
    while excess(root) < 0:
        root -= 5e-5
    return float(np.exp(root))
