"""The bootstrap: its metrics against those of literally resampled scores, and its draws."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from oodcert.reporting.claims import VALUES, interval
from oodcert.statistics import bootstrap
from oodcert.statistics.bootstrap import RESAMPLES, detection_metrics, drawn, moved_auc, with_added
from oodcert.statistics.metrics import ood_metrics

scores = st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.25, 0.5, 1.0, np.inf]), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None)
@given(
    id_scores=scores,
    ood_scores=scores,
    favoured=st.booleans(),
    beyond=st.booleans(),
    guaranteed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_metrics_are_those_of_the_images_drawn(id_scores, ood_scores, favoured, beyond, guaranteed, seed):
    id_scores, ood_scores = np.array(id_scores), np.array(ood_scores)
    draws = drawn(len(id_scores), seed)[:6], drawn(len(ood_scores), seed + 100)[:6]
    ranks = with_added(id_scores, ood_scores, favoured, beyond)
    metrics = detection_metrics(*ranks, *draws, guaranteed)
    order = 1 if favoured else -1
    id_scores, ood_scores = (np.nan_to_num(one, posinf=9, neginf=-9) for one in (id_scores, ood_scores))
    id_ends, ood_ends = ([10, -10],) * 2 if beyond else ([one.max(), one.min()] for one in (id_scores, ood_scores))
    id_images, ood_images = np.append(id_scores, id_ends[::order]), np.append(ood_scores, ood_ends[::-order])
    for row in range(6):
        repeated = np.repeat(id_images, draws[0][row]), np.repeat(ood_images, draws[1][row])
        expected = ood_metrics(*repeated, guaranteed)
        assert {metric: metrics[metric][row] for metric in expected} == pytest.approx(expected)
    expected = ood_metrics(id_scores, ood_scores, guaranteed)
    assert {metric: metrics[metric][0] for metric in expected} == pytest.approx(expected)


def test_draws_are_the_set_and_then_resamples_of_it():
    draws = drawn(30, 0)
    assert draws.shape == (1 + RESAMPLES, 32)
    assert draws[0].tolist() == [1] * 30 + [0] * 2
    assert (draws[1:].sum(axis=1) == 32).all() and (draws[1:, -1] > 0).any()
    assert np.abs(draws[1:].mean(axis=0) - 1).max() < 0.15


def test_draws_depend_on_the_number_of_images_and_the_seed_alone():
    assert np.array_equal(drawn(20, 3), drawn(20, 3))
    assert not np.array_equal(drawn(20, 3), drawn(20, 4))


def rare_failures(rng, count, failing=0.03):
    """Scores of a detector that puts a small share of its ID images below every OOD image."""
    id_scores = np.where(rng.random(count) < failing, -10.0, 3 + rng.random(count))
    return id_scores, np.where(rng.random(count) < 0.05, 3 + 0.3 * rng.random(count), rng.random(count))


@pytest.mark.parametrize("count", [20, 40, 100])
def test_intervals_hold_where_a_method_fails_on_rare_images(count, monkeypatch):
    """Two methods of the same true AUC: the difference is called positive in 2.5 % of runs, and about as seldom above.

    With added images that rank with the extremes seen, the case is called positive in 4 to 20 % of the runs.
    """
    monkeypatch.setattr(bootstrap, "RESAMPLES", 400)
    rng, repetitions, known = np.random.default_rng(3), 120, np.ones(1, bool)
    truth = np.mean(np.greater(*rare_failures(rng, 1_000_000)))
    shift = np.sqrt(2) * norm.ppf(truth)
    missed = {"difference": 0, "value": 0}
    for seed in range(repetitions):
        draws = drawn(count, 2 * seed), drawn(count, 2 * seed + 1)
        rare, smooth = rare_failures(rng, count), (shift + rng.standard_normal(count), rng.standard_normal(count))
        first, second = (
            100 * detection_metrics(*with_added(*one, favoured), *draws)["auc"]
            for one, favoured in ((rare, True), (smooth, False))
        )
        missed["difference"] += interval((first - second)[None], known, known, count)[1] > 0
        missed["value"] += interval(first[None], known, known, count, VALUES)[1] > 100 * truth
    assert max(missed.values()) <= binom.ppf(1 - 1e-4, repetitions, 0.025)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), favoured=st.booleans(), m=st.sampled_from([1, 3]))
def test_moved_auc_is_that_of_the_noisy_scores_and_falls_with_the_shift(seed, favoured, m):
    rng = np.random.default_rng(seed)
    known, strange = rng.normal(0.5, 1, (7, m)), rng.normal(size=(9, m))
    counts = drawn(7, seed), drawn(9, seed + 1)
    unmoved = moved_auc(known, strange, 0.0, *counts, favoured)
    assert unmoved[0] == pytest.approx((known.ravel()[:, None] > strange.ravel()).mean())
    values = [moved_auc(known, strange, shift, *counts, favoured) for shift in (0.0, 0.5, 1.0, 4.0)]
    seen = moved_auc(known, strange, 1.0, *counts, favoured, beyond=False)
    assert seen[0] == pytest.approx(values[2][0]) and ((seen >= 0) & (seen <= 1)).all()
    assert all((after <= before + 1e-12).all() for before, after in itertools.pairwise(values))
    assert ((unmoved >= 0) & (unmoved <= 1)).all()


def test_the_moved_auc_of_one_resample_is_that_of_the_repeated_images():
    rng = np.random.default_rng(0)
    known, strange = rng.normal(0.5, 1, (6, 2)), rng.normal(size=(5, 2))
    id_drawn, ood_drawn = np.array([[2, 0, 1, 1, 0, 2, 0, 0]]), np.array([[0, 3, 1, 0, 1, 0, 0]])
    value = moved_auc(known, strange, 0.7, id_drawn, ood_drawn, True)[0]
    repeated = np.repeat(strange, ood_drawn[0, :5], axis=0).ravel()
    rates = (repeated >= np.repeat(known, id_drawn[0, :6], axis=0).ravel()[:, None]).mean(axis=1)
    assert value == pytest.approx(np.mean(1 - norm.cdf(norm.ppf(rates) + 0.7)))
