"""Bounds against closed forms: a linear score t(w.x) with ‖w‖ = 1 is t(N(m, σ²)) and worst at m ± R."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from oodcert.certification.bounds import (
    gaussian_bounds,
    hoeffding_bounds,
    percentile_bounds,
    score_bounds,
    vote_radius,
)
from oodcert.errors import InputError

SIGMA, RADII = 0.25, np.array([0.0, 0.1, 0.25, 0.5])
REPETITIONS = 2000


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def step(z):
    return (z > 0.2).astype(float)


def repeated_draws(transform, n, mean=0.1):
    z = np.random.default_rng(0).normal(mean, SIGMA, (REPETITIONS, n))
    return np.sort(transform(z), axis=1)


def smallest_accepted(alpha):
    """Coverage below this over the repetitions happens by chance less than once in 10⁶ runs."""
    return binom.ppf(1e-6, REPETITIONS, 1 - alpha) / REPETITIONS


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("transform", [lambda z: z, sigmoid, step])
def test_percentile_covers_the_worst_case_and_not_always(alpha, transform):
    lower, upper = percentile_bounds(repeated_draws(transform, 200), SIGMA, RADII, alpha)
    worst, best = transform(0.1 + RADII), transform(0.1 - RADII)
    assert ((upper >= worst).mean(0) >= smallest_accepted(alpha)).all()
    assert ((lower <= best).mean(0) >= smallest_accepted(alpha)).all()
    if transform is not step:
        certified = np.isfinite(upper).all(0)
        assert ((upper >= worst).mean(0)[certified] < 1).all()


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("transform", [sigmoid, step])
def test_gaussian_covers_the_worst_expectation(alpha, transform):
    z = np.random.default_rng(1).normal(0, SIGMA, 10**6)
    lower, upper = gaussian_bounds(*hoeffding_bounds(repeated_draws(transform, 200).mean(1), 200, alpha), SIGMA, RADII)
    worst = np.array([transform(z + 0.1 + radius).mean() for radius in RADII])
    best = np.array([transform(z + 0.1 - radius).mean() for radius in RADII])
    assert ((upper >= worst - 1e-3).mean(0) >= smallest_accepted(alpha)).all()
    assert ((lower <= best + 1e-3).mean(0) >= smallest_accepted(alpha)).all()


def test_percentile_is_tight_for_many_draws():
    n = 10**5
    ordered = np.sort(np.random.default_rng(2).normal(0.5, SIGMA, n))
    upper = percentile_bounds(ordered, SIGMA, RADII, 0.01)[1]
    assert np.allclose(upper, 0.5 + RADII, rtol=0.02)


def test_gaussian_is_attained_by_a_step():
    exact = 1 - norm.cdf((0.2 - 0.1) / SIGMA)
    upper = gaussian_bounds(exact, exact, SIGMA, RADII)[1]
    assert np.allclose(upper, 1 - norm.cdf((0.2 - 0.1 - RADII) / SIGMA))


def test_percentile_ranks_are_the_smallest_that_hold():
    n, alpha = 100, 0.01
    upper = percentile_bounds(np.arange(1.0, n + 1), SIGMA, RADII, alpha)[1]
    for rank, q in zip(upper, norm.cdf(RADII / SIGMA), strict=True):
        if np.isfinite(rank):
            assert binom.cdf(rank - 1, n, q) >= 1 - alpha > binom.cdf(rank - 2, n, q)
        else:
            assert binom.cdf(n - 1, n, q) < 1 - alpha


def test_too_few_draws_certify_nothing():
    lower, upper = percentile_bounds(np.full(5, 0.5), SIGMA, [0.0, 1.0], 0.01)
    assert lower.tolist() == [-np.inf, -np.inf] and upper.tolist() == [np.inf, np.inf]


@settings(deadline=None)
@given(
    scores=st.lists(st.floats(0, 1), min_size=1, max_size=60),
    sigma=st.floats(0.05, 2),
    alpha=st.floats(0.001, 0.2),
    bound=st.sampled_from(["percentile", "gaussian"]),
)
def test_bounds_widen_with_the_radius_and_enclose_the_estimate(scores, sigma, alpha, bound):
    ordered = np.sort(np.array(scores))
    estimate, lower, upper = score_bounds(bound, ordered, sigma, RADII, alpha)
    assert (lower[1:] <= lower[:-1] + 1e-12).all() and (upper[1:] >= upper[:-1] - 1e-12).all()
    assert lower[0] <= estimate + 1e-12 and estimate <= upper[0] + 1e-12


@given(scores=st.lists(st.floats(-5, 5), min_size=1, max_size=60), shift=st.floats(-3, 3))
def test_percentile_bounds_mirror_under_negation(scores, shift):
    ordered = np.sort(np.array(scores)) + shift
    lower, upper = percentile_bounds(ordered, SIGMA, RADII, 0.05)
    mirrored = percentile_bounds(np.sort(-ordered), SIGMA, RADII, 0.05)
    assert np.array_equal(mirrored[0], -upper) and np.array_equal(mirrored[1], -lower)


def test_unbounded_scores_have_no_gaussian_bound():
    with pytest.raises(InputError, match="percentile"):
        score_bounds("gaussian", np.array([-1.0, 2.0]), SIGMA, RADII, 0.01)


def test_unknown_bound_is_refused():
    with pytest.raises(InputError, match="lipshitz"):
        score_bounds("lipshitz", np.array([0.5]), SIGMA, RADII, 0.01)


def test_vote_radius_against_cohen():
    # all of 10 000 votes, alpha 0.001: p̲ = alpha^(1/n)
    assert vote_radius(10_000, 10_000, 0.25, 0.001) == pytest.approx(0.25 * norm.ppf(0.001 ** (1 / 10_000)))
    assert vote_radius(5000, 10_000, 0.25, 0.001) == 0
    assert vote_radius(0, 100, 0.25, 0.001) == 0


def test_vote_radius_holds_at_its_level():
    n, p, alpha = 100, 0.9, 0.01
    radius = vote_radius(np.random.default_rng(3).binomial(n, p, REPETITIONS), n, SIGMA, alpha)
    assert (radius <= SIGMA * norm.ppf(p)).mean() >= smallest_accepted(alpha)
    assert (radius > SIGMA * norm.ppf(p)).any()
