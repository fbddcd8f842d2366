"""Bounds on mean acceptance: each holds at its level in its worst cases, and the shortcuts that look right do not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import beta, norm

from oodcert.certification.acceptance_bounds import (
    acceptance_rank,
    attacked_acceptance,
    attacked_mean_bound,
    mean_acceptance_bound,
    mean_lower_bound,
    moved_id_acceptance,
    rejection_at_rank,
    tangents,
)

SHARES = st.floats(0, 1)
SHIFTS = st.floats(0, 4)


def poisson_binomial(probabilities: np.ndarray) -> np.ndarray:
    """P(S = k) of a sum of independent coins, k = 0 … n."""
    masses = np.ones(1)
    for p in probabilities:
        masses = np.convolve(masses, [1 - p, p])
    return masses


@given(SHARES, SHARES, SHARES, SHIFTS, st.integers(1, 50))
def test_the_attacked_acceptance_is_concave_rising_and_at_least_the_acceptance(a, b, weight, shift, tries):
    mixed = weight * a + (1 - weight) * b
    at_a, at_b, at_mixed = attacked_acceptance(np.array([a, b, mixed]), shift, tries)
    assert at_mixed >= weight * at_a + (1 - weight) * at_b - 1e-9
    assert at_a >= a - 1e-12 and (at_a <= at_b + 1e-12) == (a <= b or abs(at_a - at_b) < 1e-12)


def test_the_attacked_acceptance_is_that_of_a_linear_score_at_its_worst():
    """s(x) = w·x: at the threshold c a move by R along w gives Φ((w·x - c)/σ‖w‖ + R/σ)."""
    margin = np.linspace(-3, 3, 13)
    for shift, tries in ((0.0, 1), (0.7, 1), (2.0, 5)):
        once = norm.cdf(margin + shift)
        np.testing.assert_allclose(attacked_acceptance(norm.cdf(margin), shift, tries), 1 - (1 - once) ** tries)
        np.testing.assert_allclose(moved_id_acceptance(norm.cdf(margin), shift), norm.cdf(margin - shift))


@given(SHARES, SHIFTS, st.integers(1, 20))
def test_extreme_acceptances_stay_where_they_are(share, shift, tries):
    assert attacked_acceptance(np.array([0.0, 1.0]), shift, tries).tolist() == [0, 1]
    assert 0 <= attacked_acceptance(np.array(share), shift, tries) <= 1


@pytest.mark.parametrize("count", [2, 3, 10, 40])
@pytest.mark.parametrize("alpha", [0.5, 0.1, 0.01])
def test_the_bound_on_the_mean_of_unlike_coins_never_fails_too_often(count, alpha):
    """By exact enumeration over the counts, for many vectors of coins, among them those with certain ones."""
    generator, bounds = np.random.default_rng(0), mean_acceptance_bound(np.arange(count + 1), count, alpha)
    for _ in range(300):
        coins = generator.beta(*generator.choice([0.1, 1, 5], 2), count)
        coins[: generator.integers(count)] = generator.integers(2)
        assert failure(bounds, coins) <= alpha + 1e-9


@pytest.mark.parametrize("count", [2, 3, 10, 40])
@pytest.mark.parametrize("alpha", [0.5, 0.1, 0.01])
def test_clopper_and_pearson_alone_fail_where_all_images_but_one_are_accepted_for_certain(count, alpha):
    bounds = mean_acceptance_bound(np.arange(count + 1), count, alpha)
    naive = np.append(beta.ppf(1 - alpha, np.arange(count) + 1, count - np.arange(count)), 1)
    coins = np.append(np.ones(count - 1), count * naive[-2] - (count - 1) + 1e-6)
    assert failure(naive, coins) > alpha * 1.001 and failure(bounds, coins) == 0
    np.testing.assert_allclose(
        bounds[: count // 2], np.maximum(naive, (np.arange(count + 1) + 1) / count)[: count // 2]
    )


def failure(bounds: np.ndarray, coins: np.ndarray) -> float:
    """The exact probability that the bound of the count of heads lies below the coins' mean."""
    return poisson_binomial(coins)[bounds < coins.mean() - 1e-12].sum()


@pytest.mark.parametrize("likeness", ["alike", "unlike", "ties"])
def test_a_threshold_of_the_draws_themselves_rejects_no_more_than_stated(likeness):
    generator, images, draws, alpha, fails = np.random.default_rng(1), 20, 10, 0.1, 0
    centres = {"alike": np.zeros(images), "unlike": np.linspace(-4, 4, images), "ties": np.zeros(images)}[likeness]
    rank = acceptance_rank(images * draws, 0.05, alpha)
    assert rank >= 1 and rejection_at_rank(np.array(rank + 1), images * draws, alpha) > 0.05
    for _ in range(1500):
        scores = centres[:, None] + generator.normal(size=(images, draws))
        if likeness == "ties":
            scores = np.round(scores)
        threshold = np.sort(scores.ravel())[rank - 1]
        edge = threshold - 0.5 if likeness == "ties" else threshold
        fails += norm.cdf(edge - centres).mean() > 0.05
    assert fails / 1500 <= alpha + 3 * np.sqrt(alpha / 1500)
    assert acceptance_rank(20, 0.05, 0.01) == 0


@pytest.mark.parametrize("alpha", [0.3, 0.05])
def test_the_lower_bound_of_a_mean_covers_unlike_variables(alpha):
    generator, fails = np.random.default_rng(2), 0
    chances = generator.beta(0.5, 0.5, 50)
    for _ in range(2000):
        fails += mean_lower_bound((generator.random(50) < chances).mean(), 50, alpha) > chances.mean()
    assert fails / 2000 <= alpha
    assert mean_lower_bound(0.0, 50, alpha) == 0 and mean_lower_bound(1.0, 50, alpha) == pytest.approx(
        alpha ** (1 / 50)
    )


@given(st.integers(0, 10**6), SHIFTS, st.integers(1, 8))
def test_lines_lie_above_the_attacked_acceptance_whatever_the_pilot_draws_were(seed, shift, tries):
    generator = np.random.default_rng(seed)
    pilot, thresholds = generator.normal(size=(3, 4)), np.sort(generator.normal(size=7))
    lines = tangents(pilot, thresholds, shift, tries, 0.01)
    centres = generator.normal(scale=3, size=3)
    acceptance = ndtr(centres[:, None] - thresholds)  # of scores N(centre, 1)
    slopes = np.diff(lines.sums, axis=1)
    expected = lines.intercepts + (slopes * acceptance).sum(1)
    assert (expected >= attacked_acceptance(acceptance, shift, tries).mean(1) - 1e-9).all()


DESIGNS = {
    "two images": (np.array([-1.0, 2.0]), 8),
    "one of many is always accepted": (np.append(np.full(39, -6.0), 6.0), 2),
    "spread": (np.linspace(-5, 3, 30), 4),
    "many images, two draws": (np.linspace(-4, 0, 300), 2),
    "one image, many draws": (np.array([-1.5]), 200),
}


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("design", DESIGNS)
def test_the_tangent_bound_covers_fixed_unlike_images(design, shift):
    centres, draws = DESIGNS[design]
    generator, thresholds, alpha, fails, runs = np.random.default_rng(3), np.array([-0.5, 0.0, 1.5]), 0.2, 0, 300
    exact = attacked_acceptance(ndtr(centres[:, None] - thresholds), shift).mean()
    for _ in range(runs):
        scores = centres[:, None] + generator.normal(size=(len(centres), draws))
        fails += attacked_mean_bound(scores, thresholds, shift, alpha) < exact
    assert fails / runs <= alpha + 3 * np.sqrt(alpha / runs)


def test_the_tangent_bound_is_met_with_many_draws_and_the_pooled_one_is_not():
    """Jensen's loss of pooling unlike images is what the tangents win."""
    centres, thresholds, shift = np.array([-4.0, 1.0]), np.array([0.0]), 1.5
    scores = centres[:, None] + np.random.default_rng(4).normal(size=(2, 40_000))
    exact = attacked_acceptance(ndtr(centres), shift).mean()
    pooled = attacked_acceptance(np.array(ndtr(centres).mean()), shift)
    bound = attacked_mean_bound(scores, thresholds, shift, 0.005)
    assert exact <= bound < exact + 0.03 < pooled


def test_tangents_of_the_same_draws_would_be_no_bound():
    """The trap: the attacked acceptance of each image's own share of accepted draws, its mean over the images."""
    generator, thresholds, centres, shift = np.random.default_rng(5), np.array([0.0]), np.full(40, -2.0), 2.0
    exact, naive, bound = attacked_acceptance(ndtr(centres), shift).mean(), [], []
    for _ in range(200):
        scores = centres[:, None] + generator.normal(size=(40, 2))
        naive.append(attacked_acceptance((scores >= 0).mean(1), shift).mean())
        bound.append(attacked_mean_bound(scores, thresholds, shift, 0.05))
    assert (np.array(naive) < exact).mean() > 0.9 and (np.array(bound) < exact).mean() <= 0.05
