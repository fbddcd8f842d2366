"""The bootstrap: its metrics against those of literally resampled scores, and its draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oodcert.statistics.bootstrap import RESAMPLES, detection_metrics, drawn, with_added
from oodcert.statistics.metrics import ood_metrics

scores = st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.25, 0.5, 1.0, np.inf]), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None)
@given(id_scores=scores, ood_scores=scores, favoured=st.booleans(), guaranteed=st.booleans(), seed=st.integers(0, 99))
def test_metrics_are_those_of_the_images_drawn(id_scores, ood_scores, favoured, guaranteed, seed):
    id_scores, ood_scores = np.array(id_scores), np.array(ood_scores)
    draws = drawn(len(id_scores), seed)[:6], drawn(len(ood_scores), seed + 100)[:6]
    ranks = with_added(id_scores, ood_scores, favoured)
    metrics = detection_metrics(*ranks, *draws, guaranteed)
    order = 1 if favoured else -1
    id_images = np.append(id_scores, [id_scores.max(), id_scores.min()][::order])
    ood_images = np.append(ood_scores, [ood_scores.min(), ood_scores.max()][::order])
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
