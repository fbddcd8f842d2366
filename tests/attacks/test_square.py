"""Square Attack: closed form, schedule, keyed randomness, and networks without a gradient."""

import pytest
import torch
from torch import nn

from attacked_detectors import IMAGES, Rounded, detector, linear_maximum, linear_score
from oodcert.attacks.apgd import apgd
from oodcert.attacks.square import square, square_sides
from oodcert.errors import InputError

IDS = [10, 11, 12, 13, 14, 15]


def test_a_linear_score_reaches_its_closed_form_maximum():
    images, value = square(linear_score, IMAGES, IDS, "x", 0.1, queries=1000, seed=0)
    clean, best = linear_score(IMAGES), linear_maximum(0.1, "linf")
    assert (value <= best + 1e-4).all() and (value - clean >= 0.99 * (best - clean)).all()
    assert torch.allclose(linear_score(images), value)


def test_channels_take_signs_of_their_own():
    images = torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    weight = torch.tensor([1.0, -1.0, 2.0]).reshape(3, 1, 1)

    def objective(points):
        return (points * weight).flatten(1).sum(1)

    attacked, _ = square(objective, images, [0, 1], "x", 0.1, queries=3000, seed=0)
    best = torch.where(weight > 0, (images + 0.1).clamp(max=1), (images - 0.1).clamp(min=0))
    assert torch.allclose(attacked, best)


@pytest.mark.parametrize("queries", [1, 2, 30])
def test_every_query_is_counted_and_stays_in_the_ball(queries):
    seen = []

    def objective(points):
        assert torch.is_inference_mode_enabled()
        seen.append(points.clone())
        return linear_score(points)

    images, value = square(objective, IMAGES, IDS, "x", 0.2, queries=queries, seed=0)
    assert len(seen) == queries
    for points in seen:
        assert (points - IMAGES).abs().max() <= 0.2 + 1e-6 and points.min() >= 0 and points.max() <= 1
    highest = torch.stack([linear_score(points) for points in seen]).amax(0)
    assert torch.equal(highest, value) and torch.equal(linear_score(images), value)
    stripes = (seen[0] - IMAGES)[IMAGES.clamp(0.2, 0.8) == IMAGES]
    assert torch.allclose(stripes.abs(), torch.tensor(0.2)) and (stripes > 0).any() and (stripes < 0).any()


def test_a_trial_is_one_square_that_changes_something():
    seen = []

    def objective(points):
        seen.append(points.clone())
        return -torch.arange(len(points)) * 0.0 - len(seen)  # no trial is kept

    square(objective, IMAGES, IDS, "x", 0.1, queries=200, seed=0)
    sides = square_sides(200, 8, 8)
    for points, side in zip(seen[1:], sides, strict=True):
        changed = (points != seen[0]).any(1)
        rows, columns = changed.any(2).sum(1), changed.any(1).sum(1)
        assert (rows >= 1).all() and (rows <= side).all() and (columns <= side).all()


def test_the_squares_shrink_as_in_the_authors_code():
    from pyautoattack.square import SquareAttack

    theirs = SquareAttack(None, n_queries=10_000, eps=0.1)
    for query, side in enumerate(square_sides(10_000, 32, 32).tolist()):
        expected = max(round((theirs.p_selection(query) * 32 * 32) ** 0.5), 1)
        assert side == expected
    sides = square_sides(50, 32, 32)
    assert sides[0] == 29 and sides[-1] == 1 and (sides[1:] <= sides[:-1]).all()
    assert square_sides(9, 32, 4).max() == 4


@pytest.mark.parametrize("order", [[4], [5, 3, 4, 0, 1, 2]])
def test_results_depend_on_neither_batch_nor_order(order):
    objective = detector().raw_score
    images, value = square(objective, IMAGES, IDS, "x", 0.1, queries=60, seed=0)
    again, again_value = square(objective, IMAGES[order], [IDS[i] for i in order], "x", 0.1, queries=60, seed=0)
    assert torch.equal(images[order], again) and torch.allclose(value[order], again_value, atol=1e-9)


def test_randomness_is_keyed_by_seed_name_and_id():
    def run(ids=IDS, name="x", seed=0):
        return square(linear_score, IMAGES, ids, name, 0.1, queries=5, seed=seed)[0]

    assert torch.equal(run(), run())
    for other in (run(ids=[0, 11, 12, 13, 14, 15]), run(name="y"), run(seed=1)):
        assert not torch.equal(run()[0], other[0])
    assert torch.equal(run()[1:], run(ids=[0, 11, 12, 13, 14, 15])[1:])


def test_a_hidden_gradient_does_not_stop_it():
    hidden = nn.Sequential(Rounded(), detector().network)

    def objective(points):
        return hidden(points).softmax(1).amax(1)

    begin = objective(IMAGES)
    _, by_gradient = apgd(objective, IMAGES, IMAGES, 0.1, iterations=50)
    _, by_queries = square(objective, IMAGES, IDS, "x", 0.1, queries=200, seed=0)
    assert torch.equal(by_gradient, begin)
    assert (by_queries - begin).mean() > 0.05


def test_nan_is_refused():
    with pytest.raises(InputError, match="became NaN"):
        square(lambda points: linear_score(points) * torch.nan, IMAGES, IDS, "x", 0.1, queries=3, seed=0)
