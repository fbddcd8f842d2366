"""Confidence bands against exact distributions and simulation."""

import numpy as np
import pytest
from scipy.stats import binom, ksone

from oodcert.certification.cdf_bands import cdf_band, crossing_probability
from oodcert.errors import InputError

BANDS = ["dkw", "clopper-pearson", "berk-jones"]


@pytest.mark.parametrize("n", [1, 2, 7, 50, 400])
@pytest.mark.parametrize("distance", [0.3, 0.7, 1.2, 2.5, 4.0])
def test_crossing_probability_is_that_of_kolmogorov_and_smirnov(n, distance):
    gap = distance / np.sqrt(n)
    ranks = np.arange(1, n + 1)
    probability = crossing_probability(ranks, np.maximum(ranks / n - gap, 0), n)
    assert probability == pytest.approx(ksone.sf(gap, n), rel=1e-9, abs=0)


def test_crossing_probability_in_closed_form():
    assert crossing_probability([1], [0.3], 1) == pytest.approx(0.3)
    # of two draws: the larger is at least b, and neither is below a
    a, b = 0.2, 0.5
    assert crossing_probability([1, 2], [a, b], 2) == pytest.approx(1 - (1 - a) ** 2 + (b - a) ** 2)
    assert crossing_probability([1, 2], [0.0, 1.0], 2) == pytest.approx(1)


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("n", [1, 5, 60, 2000])
@pytest.mark.parametrize("alpha", [0.05, 1e-4, 1e-9, 1e-14])
def test_bands_hold_at_their_level(band, n, alpha):
    ranks, levels = cdf_band(band, n, alpha)
    assert (np.diff(ranks) > 0).all() and ranks[0] == 1 and ranks[-1] == n
    assert (np.diff(levels) >= 0).all() and (levels >= 0).all() and (levels < 1).all()
    probability = crossing_probability(ranks, levels, n)
    assert probability <= alpha * (1 + 1e-9)
    if band == "berk-jones":  # and not needlessly less
        assert probability >= 0.99 * alpha


@pytest.mark.parametrize("band", BANDS)
def test_bands_hold_for_draws_with_ties(band):
    alpha, n, repetitions = 0.05, 100, 4000
    ranks, levels = cdf_band(band, n, alpha)
    values = np.sort(np.random.default_rng(0).binomial(3, 0.4, (repetitions, n)), axis=1)
    held = (binom.cdf(values[:, ranks - 1], 3, 0.4) >= levels).all(axis=1).mean()
    assert held >= binom.ppf(1e-6, repetitions, 1 - alpha) / repetitions


def test_berk_jones_is_tighter_than_the_union_bound_everywhere():
    (ranks, union), (same, exact) = (cdf_band(band, 1000, 0.01) for band in ("clopper-pearson", "berk-jones"))
    assert np.array_equal(ranks, same) and (exact > union).all()


@pytest.mark.parametrize("n", [100_001, 250_000])
@pytest.mark.parametrize("alpha", [1e-3, 1e-10])
def test_berk_jones_of_many_draws_is_exact(n, alpha):
    """Beyond 100 000 draws the level is foretold from fewer, and then corrected."""
    probability = crossing_probability(*cdf_band("berk-jones", n, alpha), n, negligible=1e-20 * alpha)
    assert 0.99 * alpha <= probability <= alpha


def test_what_the_recursion_drops_changes_nothing():
    ranks, levels = cdf_band("berk-jones", 5000, 1e-6)
    probabilities = [crossing_probability(ranks, levels, 5000, negligible=one) for one in (1e-22, 1e-40, 1e-60)]
    assert probabilities == pytest.approx([probabilities[1]] * 3, rel=1e-12)


def test_unusable_settings_are_refused():
    with pytest.raises(InputError, match=r"n = 1000001: .* berk-jones .*clopper-pearson"):
        cdf_band("berk-jones", 1_000_001, 0.01)
    for other in ("clopper-pearson", "dkw"):
        assert len(cdf_band(other, 1_000_001, 0.01)[0]) > 1000
    with pytest.raises(InputError, match="kolmogorov"):
        cdf_band("kolmogorov", 10, 0.01)
    with pytest.raises(InputError, match=r"0\.5"):
        cdf_band("dkw", 10, 0.6)
