"""Bounds against closed forms: a score t(w.x) with ‖w‖ = 1 has t(N(m, σ²)) as its draws and is worst at m ± R."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import bdtr
from scipy.stats import binom, norm

from oodcert.certification.smoothing_bounds import (
    BOUNDS,
    cdf_bounds,
    gaussian_bounds,
    lipschitz_bounds,
    percentile_bounds,
    proportion_bounds,
    score_bounds,
    vote_bounds,
    vote_radius,
)
from oodcert.errors import InputError
from oodcert.statistics.metrics import guaranteed_metrics

SIGMA, RADII, CENTRE, THRESHOLD = 0.25, np.array([0.0, 0.1, 0.25, 0.5]), 0.1, 0.2
REPETITIONS = 2000
MEAN_KINDS = [
    ("cdf", {"band": "dkw"}),
    ("cdf", {"band": "clopper-pearson"}),
    ("cdf", {"band": "berk-jones"}),
    ("gaussian", {"mean": "hoeffding"}),
    ("gaussian", {"mean": "bernstein"}),
    ("gaussian", {"mean": "betting"}),
    ("lipschitz", {"mean": "betting"}),
]
every_level = pytest.mark.parametrize("alpha", [0.05, 0.01])


def identity(z):
    return z


def sigmoid(z):
    return 1 / (1 + np.exp(-8 * z))


def step(z):
    return (z >= THRESHOLD).astype(float)


def draws(transform, n, repetitions=REPETITIONS, seed=0):
    return transform(np.random.default_rng(seed).normal(CENTRE, SIGMA, (repetitions, n)))


def expectation(transform, centre):
    """E t(N(centre, σ²)), by quadrature; of the step in closed form."""
    if transform is step:
        return norm.sf(THRESHOLD, centre, SIGMA)
    low, high = centre - 12 * SIGMA, centre + 12 * SIGMA
    return quad(lambda z: transform(z) * norm.pdf(z, centre, SIGMA), low, high, epsabs=1e-12)[0]


def exact(bound, transform, p=0.5):
    """What the bound is about, at its worst within each radius: (lowest [R], highest [R])."""
    value = {
        "percentile": lambda centre: transform(norm.ppf(p, centre, SIGMA)),
        "vote": lambda centre: norm.sf(THRESHOLD, centre, SIGMA),
    }.get(bound, lambda centre: expectation(transform, centre))
    return np.array([value(CENTRE - r) for r in RADII]), np.array([value(CENTRE + r) for r in RADII])


def smallest_coverage(alpha):
    """Coverage at level 1 - alpha falls below this by chance less than once in 10⁶ times."""
    return binom.ppf(1e-6, REPETITIONS, 1 - alpha) / REPETITIONS


def assert_covers(lower, upper, lowest, highest, alpha):
    assert ((upper >= highest - 1e-9).mean(0) >= smallest_coverage(alpha)).all()
    assert ((lower <= lowest + 1e-9).mean(0) >= smallest_coverage(alpha)).all()


@every_level
@pytest.mark.parametrize("p", [0.5, 0.2])
@pytest.mark.parametrize("transform", [identity, sigmoid, step])
def test_percentile_covers_the_worst_case_and_not_always(transform, p, alpha):
    _, lower, upper = score_bounds(["percentile"], draws(transform, 200), SIGMA, RADII, alpha, p=p)["percentile"]
    lowest, highest = exact("percentile", transform, p)
    assert_covers(lower, upper, lowest, highest, alpha)
    if transform is not step:
        certified = np.isfinite(upper).all(0)
        assert certified[0] and ((upper >= highest).mean(0)[certified] < 1).all()


@every_level
@pytest.mark.parametrize("transform", [sigmoid, step])
@pytest.mark.parametrize(("bound", "option"), MEAN_KINDS, ids=lambda value: str(value))
def test_bounds_on_the_mean_cover_the_worst_expectation(bound, option, transform, alpha):
    _, lower, upper = score_bounds([bound], draws(transform, 200), SIGMA, RADII, alpha, **option)[bound]
    assert_covers(lower, upper, *exact(bound, transform), alpha)


@every_level
def test_vote_covers_the_worst_probability_and_not_always(alpha):
    _, lower, upper = score_bounds(["vote"], draws(identity, 200), SIGMA, RADII, alpha, threshold=THRESHOLD)["vote"]
    lowest, highest = exact("vote", identity)
    assert_covers(lower, upper, lowest, highest, alpha)
    assert ((upper >= highest).mean(0) < 1).all() and ((lower <= lowest).mean(0) < 1).all()


@pytest.mark.parametrize("p", [0.5, 0.3])
@pytest.mark.parametrize("transform", [identity, sigmoid])
def test_percentile_is_within_2_percent_of_the_worst_case_for_many_draws(transform, p):
    ordered = np.sort(draws(transform, 10**5, 1)[0])
    lower, upper = percentile_bounds(ordered, SIGMA, RADII, 0.01, p)
    lowest, highest = exact("percentile", transform, p)
    scale = np.quantile(ordered, 0.99) - np.quantile(ordered, 0.01)
    assert np.allclose(upper, highest, rtol=0.02, atol=0.005 * scale)
    assert np.allclose(lower, lowest, rtol=0.02, atol=0.005 * scale)


def test_a_step_attains_the_gaussian_and_vote_bounds():
    mean = expectation(step, CENTRE)
    lowest, highest = exact("gaussian", step)
    assert np.allclose(gaussian_bounds(mean, mean, SIGMA, RADII), (lowest, highest))


def test_a_step_attains_the_lipschitz_constant_and_nothing_exceeds_it():
    mean, small = expectation(step, THRESHOLD), 1e-4
    assert mean == 0.5
    (upper,) = lipschitz_bounds(mean, mean, SIGMA, [small])[1]
    assert (upper - mean) / small == pytest.approx((expectation(step, THRESHOLD + small) - mean) / small, rel=1e-6)
    assert (upper - mean) / small == pytest.approx(1 / (SIGMA * np.sqrt(2 * np.pi)))
    means = np.linspace(0, 1, 101)
    tight, loose = gaussian_bounds(means, means, SIGMA, RADII), lipschitz_bounds(means, means, SIGMA, RADII)
    assert (loose[0] <= tight[0] + 1e-12).all() and (loose[1] >= tight[1] - 1e-12).all()


@pytest.mark.parametrize("n", [10**4, 10**5])
@pytest.mark.parametrize("transform", [sigmoid, step])
def test_cdf_is_never_looser_than_gaussian_beyond_noise(transform, n):
    bounds = score_bounds(["cdf", "gaussian"], draws(transform, n, 20), SIGMA, RADII, 0.01)
    noise = np.sqrt(np.log(1 / 0.01) / (2 * n))  # Hoeffding's half-width
    assert (bounds["cdf"][2] <= bounds["gaussian"][2] + noise).all()
    assert (bounds["cdf"][1] >= bounds["gaussian"][1] - noise).all()


def test_cdf_is_tighter_than_gaussian_on_a_smooth_score():
    bounds = score_bounds(["cdf", "gaussian"], draws(sigmoid, 10**4, 20), SIGMA, RADII[2:], 0.01)
    lowest, highest = exact("cdf", sigmoid)
    for side, truth in ((1, lowest[2:]), (2, highest[2:])):
        gap = {bound: abs(bounds[bound][side] - truth).mean(0) for bound in bounds}
        assert (gap["cdf"] < 0.8 * gap["gaussian"]).all()


@pytest.mark.parametrize("radius", RADII)
def test_vote_and_percentile_decide_alike(radius):
    """The binomial tail is the same one: the median's bound is below τ exactly where the vote's is below 1/2."""
    many = draws(identity, 300, 200)
    bounds = score_bounds(["percentile", "vote"], many, SIGMA, [radius], 0.01, threshold=THRESHOLD)
    assert np.array_equal(bounds["percentile"][2] < THRESHOLD, bounds["vote"][2] < 0.5)


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
    band=st.sampled_from(["dkw", "clopper-pearson", "berk-jones"]),
    mean=st.sampled_from(["hoeffding", "bernstein", "betting"]),
)
def test_bounds_widen_with_the_radius_and_enclose_the_estimate(scores, sigma, alpha, band, mean):
    options = {"threshold": 0.5, "band": band, "mean": mean}
    for estimate, lower, upper in score_bounds(BOUNDS, np.array(scores), sigma, RADII, alpha, **options).values():
        assert (lower[1:] <= lower[:-1] + 1e-9).all() and (upper[1:] >= upper[:-1] - 1e-9).all()
        assert lower[0] <= estimate + 1e-9 and estimate <= upper[0] + 1e-9


@settings(deadline=None)
@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=60), alpha=st.floats(0.001, 0.2))
def test_bounds_mirror_when_the_score_is_turned_around(scores, alpha):
    scores, kinds = np.array(scores), ["percentile", "cdf", "gaussian", "lipschitz"]
    one, other = (score_bounds(kinds, side, SIGMA, RADII, alpha) for side in (scores, 1 - scores))
    for kind in kinds:
        assert np.allclose(one[kind][1], 1 - other[kind][2]) and np.allclose(one[kind][2], 1 - other[kind][1])


def test_many_images_at_once_are_the_same_as_one_by_one():
    many = draws(sigmoid, 150, 12).reshape(3, 4, 150)
    together = score_bounds(BOUNDS, many, SIGMA, RADII, 0.01, threshold=0.5)
    for index in np.ndindex(3, 4):
        alone = score_bounds(BOUNDS, many[index], SIGMA, RADII, 0.01, threshold=0.5)
        for kind in BOUNDS:
            for part in range(3):
                assert np.allclose(together[kind][part][index], alone[kind][part], rtol=1e-12, atol=1e-12)


@settings(deadline=None)
@given(
    constant=st.floats(0, 1),
    n=st.sampled_from([1, 2, 10, 100, 1000]),
    sigma=st.sampled_from([0.12, 0.25, 1.0]),
    alpha=st.sampled_from([0.05, 1e-3]),
    p=st.sampled_from([0.5, 0.1]),
)
def test_a_constant_score_guarantees_nothing(constant, n, sigma, alpha, p):
    bounds = score_bounds(BOUNDS, np.full((5, n), constant), sigma, RADII, alpha, p=p, threshold=0.5)
    table = pd.concat(
        pd.DataFrame({"bound": kind, "sigma": sigma, "radius": radius, "lower": lower[:, r], "upper": upper[:, r]})
        for kind, (_, lower, upper) in bounds.items()
        for r, radius in enumerate(RADII)
    )
    for confidence in (None, 0.99):
        metrics = guaranteed_metrics(table.assign(alpha=alpha), table.assign(alpha=alpha), confidence=confidence)
        assert (metrics["auc"] <= 0.5).all()


@pytest.mark.parametrize("bound", ["cdf", "gaussian", "lipschitz"])
def test_scores_outside_0_1_have_no_bound_on_the_mean(bound):
    with pytest.raises(InputError, match=r"percentile or the vote"):
        score_bounds([bound], np.array([-1.0, 2.0]), SIGMA, RADII, 0.01)


@pytest.mark.parametrize("option", [{"mean": "betts"}, {"band": "kolmogorov"}])
def test_unknown_options_are_refused(option):
    with pytest.raises(InputError, match=next(iter(option.values()))):
        score_bounds(["cdf", "gaussian"], np.array([0.5]), SIGMA, RADII, 0.01, **option)


def test_unknown_bound_is_refused():
    with pytest.raises(InputError, match="lipshitz"):
        score_bounds(["lipshitz"], np.array([0.5]), SIGMA, RADII, 0.01)


@pytest.mark.parametrize("alpha", [0.05, 1e-6, 1e-12, 1e-14, 1e-100])
@pytest.mark.parametrize("n", [1, 100, 10_000, 1_000_000])
def test_clopper_pearson_ends_near_one_are_rounded_up(n, alpha):
    """1 - upper is exact in float64 from one half on: the failure of k = n - 1 draws is 1 - upper^n."""
    for k in {n - 1, max(n - 2, 0), n - min(n, 5)}:
        upper = proportion_bounds(k, n, alpha)[1]
        assert bdtr(k, n, upper) <= alpha * (1 + 1e-9) and upper <= 1
        assert upper == 1 or bdtr(k, n, upper) >= 0.5 * alpha or 1 - upper < 1e-14
        (_, vote), (_, proportion) = vote_bounds(k, n, 0.25, [0.0], alpha), proportion_bounds(k, n, alpha)
        assert vote[0] == pytest.approx(proportion, rel=1e-12) and vote[0] >= proportion * (1 - 1e-13)
    assert proportion_bounds(n, n, alpha)[1] == 1 and proportion_bounds(0, n, alpha)[0] == 0


@every_level
@pytest.mark.parametrize("p", [0.02, 0.5, 0.999])
def test_clopper_pearson_holds_at_its_level(p, alpha):
    n = 100
    lower, upper = proportion_bounds(np.arange(n + 1), n, alpha)
    weight = binom.pmf(np.arange(n + 1), n, p)
    assert weight[lower <= p].sum() >= 1 - alpha and weight[upper >= p].sum() >= 1 - alpha
    assert lower[0] == 0 and upper[-1] == 1


def test_vote_radius_against_cohen():
    # all of 10 000 votes, alpha 0.001: p̲ = alpha^(1/n)
    assert vote_radius(10_000, 10_000, 0.25, 0.001) == pytest.approx(0.25 * norm.ppf(0.001 ** (1 / 10_000)))
    assert vote_radius(5000, 10_000, 0.25, 0.001) == 0
    assert vote_radius(0, 100, 0.25, 0.001) == 0


def test_vote_radius_holds_at_its_level():
    n, p, alpha = 100, 0.9, 0.01
    radius = vote_radius(np.random.default_rng(3).binomial(n, p, REPETITIONS), n, SIGMA, alpha)
    assert (radius <= SIGMA * norm.ppf(p)).mean() >= smallest_coverage(alpha)
    assert (radius > SIGMA * norm.ppf(p)).any()


@pytest.mark.parametrize("accepted", range(0, 101, 10))
def test_vote_bounds_and_radius_agree(accepted):
    """The majority rejects up to the radius of its votes, and not beyond."""
    radius = float(vote_radius(100 - accepted, 100, SIGMA, 0.01))
    if radius > 0:
        within, beyond = vote_bounds(accepted, 100, SIGMA, [0.999 * radius, 1.001 * radius], 0.01)[1]
        assert within < 0.5 < beyond
    else:
        assert vote_bounds(accepted, 100, SIGMA, [0.0], 0.01)[1] >= 0.5 - 1e-12


def test_the_bands_order_the_cdf_bounds():
    """Berk–Jones is never looser than its union bound; all three are valid, so none is tighter than the truth."""
    ordered = np.sort(draws(sigmoid, 1000, 50), axis=1)
    union, exact_band = (cdf_bounds(ordered, SIGMA, RADII, 0.01, band) for band in ("clopper-pearson", "berk-jones"))
    assert (exact_band[1] <= union[1]).all() and (exact_band[0] >= union[0]).all()
