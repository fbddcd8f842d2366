"""How often noisy scores are accepted: bounds from draws, and what an adversary can make of them.

A detector that takes one noisy pass accepts an image x at a threshold c with probability q_x(c) = P(s(x + δ) ≥ c),
δ ~ N(0, sigma² I). All bounds here are on means of such probabilities over a set of images, which need not be alike.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainccinv, log_ndtr, ndtr, ndtri, xlogy

SLOPES = 100  # of an image's tangents, at most
BETS = np.array([0.5, 1.0, 2.0])  # times the bet that would be best if the draws before a block were right
PRIOR = 2.0  # draws for which the mean over the images counts in a guess of one image's acceptance


def attacked_acceptance(acceptance: np.ndarray, shift: float, tries: int = 1) -> np.ndarray:
    """The highest acceptance that a move of length R = shift · sigma can give an image: Φ(Φ⁻¹(q) + shift).

    It is attained by a linear score, and it is concave in q. So the mean over any images is at most its value at the
    mean acceptance (Jensen). With k tries, each with fresh noise, it is 1 - (1 - ·)^k, which is concave as well.

    Args:
        acceptance: Acceptance without a move, in [0, 1], of any shape.
        shift: R / sigma, at least 0.
        tries: Queries that the adversary has, k.

    Returns:
        Values of the same shape, at least `acceptance`.

    Source: Levine et al. 2019, https://arxiv.org/abs/1910.12163 (Neyman-Pearson for Gaussian noise);
        Salman et al. 2019, https://arxiv.org/abs/1906.04584
    """
    quantile = ndtri(acceptance) + shift
    return ndtr(quantile) if tries == 1 else -np.expm1(tries * log_ndtr(-quantile))


def moved_id_acceptance(acceptance: np.ndarray, shift: float) -> np.ndarray:
    """The lowest mean acceptance of ID images that an adversary may move too: Φ(Φ⁻¹(p) - shift), by convexity.

    Args:
        acceptance: Mean acceptance without a move, in [0, 1].
        shift: R / sigma, at least 0.

    Returns:
        Values of the same shape.
    """
    return ndtr(ndtri(acceptance) - shift)


def mean_acceptance_bound(accepted: np.ndarray, draws: int, alpha: float) -> np.ndarray:
    """Upper bound on the mean acceptance from independent draws of images that need not be alike.

    Clopper and Pearson's bound u(k) is exact for a binomial count. The count of unlike images varies less, but not in
    every tail: u(k) alone fails too often where k is nearly all. By Hoeffding (1956, Theorem 5) P(S ≤ k) is at most its
    binomial value where k ≤ E S - 1. So max(u(k), (k + 1) / draws) fails with probability at most alpha.

    Args:
        accepted: Number of accepted draws, of any shape.
        draws: Number of all draws.
        alpha: Error probability.

    Returns:
        Bounds in (0, 1].

    Source: Hoeffding 1956, https://doi.org/10.1214/aoms/1177728178
    """
    accepted = np.asarray(accepted, np.float64)
    exact = betainccinv(accepted + 1, np.maximum(draws - accepted, 1e-9), alpha)
    return np.where(accepted >= draws, 1.0, np.minimum(1, np.maximum(exact, (accepted + 1) / draws)))


def rejection_at_rank(ranks: np.ndarray, draws: int, alpha: float) -> np.ndarray:
    """Upper bound on the mean probability of a score below the k-th smallest of the draws themselves.

    It exceeds a share p only where fewer than k draws lie at or below the p-quantile of the mean distribution. That has
    a probability of at most alpha where mean_acceptance_bound of k - 1 is at most p. So draws of unlike images are
    allowed, and no draws are needed for the choice of a threshold.

    Args:
        ranks: k, from 1 to draws, of any shape; chosen before the draws.
        draws: Number of independent draws.
        alpha: Error probability.

    Returns:
        Bounds in (0, 1].
    """
    return mean_acceptance_bound(np.asarray(ranks) - 1, draws, alpha)


def acceptance_rank(draws: int, share: float, alpha: float) -> int:
    """The highest rank whose draw, as a threshold, rejects at most a `share` of the set, by rejection_at_rank.

    Args:
        draws: Number of independent draws.
        share: In (0, 1), such as 0.05 for a true-positive rate of 95 %.
        alpha: Error probability.

    Returns:
        k from 1 to draws, or 0 if no rank can be certified.
    """
    ranks = np.arange(1, int(share * draws) + 1)
    certified = rejection_at_rank(ranks, draws, alpha) <= share
    return int(ranks[certified][-1]) if certified.any() else 0


def mean_lower_bound(mean: float, draws: int, alpha: float) -> float:
    """Lower bound on the mean of independent variables in [0, 1], which need not be alike, from their average.

    The average of n such variables exceeds their mean μ by enough to be ≥ a with a probability of at most
    exp(-n KL(a, μ)), KL that of two coins.

    Args:
        mean: Average of the draws, in [0, 1].
        draws: Number of draws.
        alpha: Error probability.

    Returns:
        The bound, in [0, mean].

    Source: Hoeffding 1963, Theorem 1, https://doi.org/10.1080/01621459.1963.10500830
    """
    allowed, highest, lowest = np.log(1 / alpha) / draws, min(mean, 1 - 1e-16), 1e-300

    def excess(candidate: float) -> float:
        heads = xlogy(mean, mean) - xlogy(mean, candidate)
        return float(heads + xlogy(1 - mean, 1 - mean) - xlogy(1 - mean, 1 - candidate) - allowed)

    if mean <= lowest or excess(lowest) <= 0:
        return 0.0
    return float(brentq(excess, lowest, highest, xtol=1e-12))


@dataclass(frozen=True)
class Tangents:
    """Straight lines above the attacked acceptance, one an image and threshold. Neighbouring thresholds share a slope.

    Attributes:
        thresholds: Ascending [J].
        edges: Ranks [B + 1], from 0 to J, of the groups of thresholds that share a slope.
        intercepts: Mean over all lines of an image, [M].
        sums: Sum of an image's slopes up to each edge, divided by J, [M, B + 1].
    """

    thresholds: np.ndarray
    edges: np.ndarray
    intercepts: np.ndarray
    sums: np.ndarray

    def values(self, draws: np.ndarray) -> np.ndarray:
        """The mean of an image's lines at draws [M, m]. Its expectation is at least the mean attacked acceptance."""
        passed = np.searchsorted(self.thresholds, draws, side="right")
        group = np.minimum(np.searchsorted(self.edges, passed, side="right"), len(self.edges) - 1) - 1
        share = (passed - self.edges[group]) / np.diff(self.edges)[group]  # of the group's thresholds that are passed
        below, above = (np.take_along_axis(self.sums, group + step, 1) for step in (0, 1))
        return self.intercepts[:, None] + below + share * (above - below)

    @property
    def highest(self) -> np.ndarray:
        """The largest value that an image's draw can give, [M]."""
        return self.intercepts + self.sums[:, -1]


def tangents(pilot: np.ndarray, thresholds: np.ndarray, shift: float, tries: int, floor: float) -> Tangents:
    """Tangents of the attacked acceptance, at the acceptance that pilot draws suggest for each image and threshold.

    Each of them is valid wherever it touches, since the attacked acceptance is concave. Only how tight they are depends
    on the pilot draws.

    Args:
        pilot: Draws [M, m] of the images' noisy scores, independent of those that the tangents are used on.
        thresholds: Ascending [J].
        shift: R / sigma.
        tries: As for attacked_acceptance.
        floor: The smallest acceptance at which a line touches. A lower one would be so steep that one draw decides.

    Returns:
        The tangents.
    """
    edges = np.unique(np.linspace(0, len(thresholds), SLOPES + 1).round().astype(int))
    middle = thresholds[(edges[:-1] + edges[1:]) // 2]
    accepted = pilot.shape[1] - np.stack([np.searchsorted(np.sort(row), middle) for row in pilot])  # [M, B]
    touch = np.clip(_guessed_acceptance(accepted, pilot.shape[1]), floor, 1 - floor)
    quantile = ndtri(touch)
    slope = np.exp(-shift * quantile - shift**2 / 2)
    if tries > 1:
        slope *= tries * np.exp((tries - 1) * log_ndtr(-quantile - shift))
    weights = np.diff(edges) / len(thresholds)
    intercepts = (attacked_acceptance(touch, shift, tries) - slope * touch) @ weights
    sums = np.concatenate([np.zeros((len(pilot), 1)), np.cumsum(slope * weights, 1)], 1)
    return Tangents(thresholds, edges, intercepts, sums)


def _guessed_acceptance(accepted: np.ndarray, draws: int) -> np.ndarray:
    """Guesses of each image's acceptance from its accepted draws [M, B]: shrunk to the mean as far as images are alike.

    They are means of beta distributions fitted to the images by moments, threshold by threshold.
    """
    pooled = accepted.mean(0) / draws
    if draws == 1:
        return (accepted + PRIOR * pooled) / (draws + PRIOR)
    single = pooled * (1 - pooled)
    between = (accepted.var(0) / draws**2 - single / draws) / (1 - 1 / draws)
    strength = np.clip(single / np.maximum(between, 1e-12) - 1, PRIOR, 1e6)
    return (accepted + strength * pooled) / (draws + strength)


def attacked_mean_bound(draws: np.ndarray, thresholds: np.ndarray, shift: float, alpha: float, tries: int = 1) -> float:
    """Upper bound on the attacked acceptance, its mean over a fixed set of images and over thresholds.

    The draws are used block by block, each as long as all before it. Those before give the tangents for the block. A
    draw of image x in it has the value Y of its tangents, whose expectation is at least the attacked acceptance of x.
    Let c_x be guesses of it minus their mean, also from the draws before. At the true mean m, the product over the
    block's draws of 1 + λ (m + c_x - Y) has an expectation of at most 1, given the draws before: the factors are
    independent, and the mean of their expectations is at most 1 (inequality of the arithmetic and the geometric mean).
    So has the product over all blocks, and its average over several λ. By Markov's inequality the average exceeds
    1 / alpha with probability at most alpha. It rises with m, and the bound is the m at which it is 1 / alpha. Images
    need not be alike. λ is so small that every factor is positive.

    Args:
        draws: Noisy scores [M, n] of the images, n ≥ 2.
        thresholds: Ascending [J], independent of the draws.
        shift: R / sigma.
        alpha: Error probability.
        tries: As for attacked_acceptance.

    Returns:
        The bound, in [0, 1].

    Source: Waudby-Smith and Ramdas 2024, https://arxiv.org/abs/2010.09686 (betting on a mean, of draws that are alike)
    """
    floor = min(0.5, np.log(1 / alpha) / draws.size)
    bets, deviations = [], []
    for first, last in _blocks(draws.shape[1]):
        lines = tangents(draws[:, :first], thresholds, shift, tries, floor)
        before, values = lines.values(draws[:, :first]), lines.values(draws[:, first:last])
        guess = (before.sum(1) + PRIOR * before.mean()) / (first + PRIOR)
        centred = guess - guess.mean()
        spread = max((before - guess[:, None]).var(), 1e-12)
        largest = 0.99 / max(1e-12, float((lines.highest - centred).max()))
        bets.append(np.minimum(BETS * np.sqrt(2 * np.log(1 / alpha) / (draws.size * spread)), largest))
        deviations.append((values - centred[:, None]).ravel())

    def excess(mean: float) -> float:
        logs = sum(np.log1p(bet[:, None] * (mean - one)).sum(1) for bet, one in zip(bets, deviations, strict=True))
        return float(np.logaddexp.reduce(logs) - np.log(len(BETS)) - np.log(1 / alpha))

    if excess(1.0) < 0:
        return 1.0
    return 0.0 if excess(0.0) > 0 else min(1.0, float(brentq(excess, 0.0, 1.0, xtol=1e-7)) + 1e-7)


def _blocks(draws: int) -> list[tuple[int, int]]:
    """Draws first to last - 1 of each block; the first block comes after an eighth of the draws."""
    edges = [max(1, draws // 8)]
    while edges[-1] < draws:
        edges.append(min(draws, 2 * edges[-1]))
    return list(pairwise(edges))
