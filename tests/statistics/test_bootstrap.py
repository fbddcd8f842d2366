"""The bootstrap: its metrics against those of literally resampled scores, and its draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oodcert.statistics.bootstrap import RESAMPLES, detection_metrics, drawn, with_added
from oodcert.statistics.metrics import ood_metrics

scores = st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.25, 0.5, 1.0, np.inf]), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None)
@given(inside=scores, outside=scores, favoured=st.booleans(), guaranteed=st.booleans(), seed=st.integers(0, 99))
def test_metrics_are_those_of_the_images_drawn(inside, outside, favoured, guaranteed, seed):
    inside, outside = np.array(inside), np.array(outside)
    draws = drawn(seed, "id", len(inside))[:6], drawn(seed, "far", len(outside))[:6]
    ranks = with_added(inside, outside, favoured)
    found = detection_metrics(*ranks, *draws, guaranteed)
    order = 1 if favoured else -1
    images = np.append(inside, [inside.max(), inside.min()][::order])
    strange = np.append(outside, [outside.min(), outside.max()][::order])
    for row in range(6):
        repeated = np.repeat(images, draws[0][row]), np.repeat(strange, draws[1][row])
        expected = ood_metrics(*repeated, guaranteed)
        assert {metric: found[metric][row] for metric in expected} == pytest.approx(expected)
    assert {metric: found[metric][0] for metric in expected} == pytest.approx(ood_metrics(inside, outside, guaranteed))


def test_draws_are_the_set_and_then_resamples_of_it():
    draws = drawn(0, "id", 30)
    assert draws.shape == (1 + RESAMPLES, 32)
    assert draws[0].tolist() == [1] * 30 + [0] * 2
    assert (draws[1:].sum(axis=1) == 32).all() and (draws[1:, -1] > 0).any()
    assert np.abs(draws[1:].mean(axis=0) - 1).max() < 0.15


def test_draws_depend_on_seed_set_and_number_of_images_alone():
    assert np.array_equal(drawn(3, "svhn", 20), drawn(3, "svhn", 20))
    assert not np.array_equal(drawn(3, "svhn", 20), drawn(4, "svhn", 20))
    assert not np.array_equal(drawn(3, "svhn", 20), drawn(3, "textures", 20))
