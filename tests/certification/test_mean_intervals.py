"""Finite-sample bounds on a mean: coverage on hard distributions, and how they compare."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from oodcert.certification.mean_intervals import MEANS, mean_bounds
from oodcert.errors import InputError

REPETITIONS = 2000
DISTRIBUTIONS = {
    "uniform": (lambda rng, size: rng.random(size), 0.5),
    "rare": (lambda rng, size: (rng.random(size) < 0.02).astype(float), 0.02),
    "common": (lambda rng, size: (rng.random(size) < 0.97).astype(float), 0.97),
    "skewed": (lambda rng, size: rng.beta(0.1, 2, size), 0.1 / 2.1),
    "narrow": (lambda rng, size: 0.3 + 0.01 * rng.random(size), 0.305),
    "constant": (lambda rng, size: np.full(size, 0.125), 0.125),
}


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("n", [1, 30, 300])
@pytest.mark.parametrize("kind", MEANS)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_mean_is_covered(name, kind, n, alpha):
    sample, mean = DISTRIBUTIONS[name]
    lower, upper = mean_bounds(kind, sample(np.random.default_rng(0), (REPETITIONS, n)), alpha)
    smallest = binom.ppf(1e-6, REPETITIONS, 1 - alpha) / REPETITIONS
    assert (upper >= mean).mean() >= smallest and (lower <= mean).mean() >= smallest
    assert (lower >= 0).all() and (upper <= 1).all()


def test_betting_is_not_needlessly_loose():
    sample, mean = DISTRIBUTIONS["rare"]
    lower, upper = mean_bounds("betting", sample(np.random.default_rng(0), (REPETITIONS, 300)), 0.05)
    assert (upper < mean).any() and (lower > mean).any()


@pytest.mark.parametrize("name", ["uniform", "rare", "skewed", "narrow"])
def test_betting_is_the_tightest_for_many_draws(name):
    many = DISTRIBUTIONS[name][0](np.random.default_rng(1), (50, 2000))
    widths = {kind: np.subtract(*mean_bounds(kind, many, 0.01)[::-1]).mean() for kind in MEANS}
    assert widths["betting"] < min(widths["hoeffding"], widths["bernstein"])


def test_the_betting_bound_is_the_root_of_the_capital():
    """The capital at the bound, from its definition, one draw after another."""
    draws, alpha = np.random.default_rng(2).random(40), 0.05
    upper = mean_bounds("betting", draws, alpha)[1]
    log_capital, total, squares = 0.0, 0.5, 0.25
    for i, draw in enumerate(draws):
        bet = min(0.75, np.sqrt(2 * np.log(1 / alpha) / (40 * squares / (i + 1))))
        log_capital += np.log(1 + bet * (upper - draw))
        total += draw
        squares += (draw - total / (i + 2)) ** 2
    assert log_capital == pytest.approx(np.log(1 / alpha), abs=1e-6) and log_capital >= np.log(1 / alpha) - 1e-12


@given(draws=st.lists(st.floats(0, 1), min_size=1, max_size=50), kind=st.sampled_from(list(MEANS)))
def test_bounds_enclose_the_mean_and_mirror(draws, kind):
    draws = np.array(draws)
    lower, upper = mean_bounds(kind, draws, 0.01)
    assert lower <= draws.mean() + 1e-9 and draws.mean() <= upper + 1e-9
    assert np.allclose(mean_bounds(kind, 1 - draws, 0.01), (1 - upper, 1 - lower), atol=1e-9)


@pytest.mark.parametrize("draws", [[-0.1, 0.5], [0.5, 1.1], [np.nan, 0.5]])
def test_draws_outside_0_1_are_refused(draws):
    with pytest.raises(InputError, match="percentile"):
        mean_bounds("betting", np.array(draws), 0.01)
