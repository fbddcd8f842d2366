"""Draws are keyed and batches have one shape: shards, order and interruption change no bit of a certificate."""

import numpy as np
import pytest
import torch
from torch import nn

from oodcert.certification.monte_carlo import default_batch_size, sample, shared_denoising
from oodcert.errors import InputError
from oodcert.models.detector import Detector
from oodcert.models.wrappers import DenoisedNetwork, JointNetwork
from smoothed_networks import IMAGES, SAMPLING, CountingDenoiser, StopAtLook, draws_of, small_network


def test_every_image_gets_its_own_draws():
    everything = draws_of()
    assert len(everything) == 7 and everything[0].shape == (100, 3)
    order = [3, 0, 6]
    assert np.array_equal(draws_of(IMAGES[order], order), [everything[position] for position in order])


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_shards_do_not_change_a_bit(shards):
    drawn = [draws_of(IMAGES[i], i.tolist()) for i in torch.arange(7).tensor_split(shards)]
    assert np.array_equal(np.concatenate(drawn), draws_of())


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_batch_size_changes_rounding_alone(batch_size):
    assert np.allclose(draws_of(batch_size=batch_size), draws_of(), atol=1e-5)
    noise = [draws_of(evaluate=lambda batch: batch.flatten(1), batch_size=size) for size in (batch_size, 32)]
    assert np.array_equal(*noise)


def test_the_network_sees_the_stated_noise():
    seen = np.stack(draws_of(0.5 + 0 * IMAGES, evaluate=lambda batch: batch.flatten(1), looks=[1000])) - 0.5
    assert abs(seen.mean()) < 0.002 and abs(seen.std() - 0.25) < 0.002
    assert len(np.unique(seen)) > 0.9 * seen.size


def test_every_pass_has_the_same_shape_and_one_look_keeps_the_order():
    shapes = []

    def recorder(batch):
        shapes.append(tuple(batch.shape))
        return batch.flatten(1)

    order = [position for position, _ in sample(recorder, IMAGES, range(7), "set", **SAMPLING)]
    assert order == list(range(7)) and set(shapes) == {(32, 1, 8, 8)} and len(shapes) == -(-700 // 32)


def test_an_image_stops_at_the_look_where_it_is_finished():
    looks = [10, 30, 100]
    rule = StopAtLook(last=[10, 30, 100, 10, 30, 100, 100])
    stopped, everything = draws_of(looks=looks, stopping=rule), draws_of()
    assert [len(one) for one in stopped] == rule.last
    for early, full in zip(stopped, everything, strict=True):
        assert np.allclose(early, full[: len(early)], atol=1e-6)
    assert sorted(rule.seen) == [(p, drawn) for p in range(7) for drawn in looks[:2] if drawn <= rule.last[p]]


@pytest.mark.parametrize("ahead", [1, 2])
def test_batches_ahead_of_their_results_change_no_draw_and_fill_up(ahead):
    """As on a GPU, which has the next batch before the rows of the last one are looked at."""
    shapes = []

    def recorder(batch):
        shapes.append(batch.shape)
        return small_network()(batch)

    settings = {"looks": [10, 30, 100], "stopping": StopAtLook(last=[10, 30, 100, 10, 30, 100, 100])}
    expected = draws_of(evaluate=recorder, **settings)
    alone = len(shapes)
    drawn = draws_of(evaluate=recorder, **settings, ahead=ahead)
    for one, other in zip(expected, drawn, strict=True):
        assert len(one) == len(other) and np.allclose(one, other, atol=1e-6)
    assert len(shapes) <= 2 * alone + 1 and len(set(shapes)) == 1
    assert np.array_equal(draws_of(ahead=ahead), draws_of())


def test_rows_are_refused_at_the_latest_one_batch_later():
    evaluated, seen = [], []

    def refuse(rows):
        seen.append(rows)
        if len(seen) == 2:
            raise InputError("no")

    def evaluate(batch):
        evaluated.append(batch)
        return batch.flatten(1)

    with pytest.raises(InputError, match="no"):
        draws_of(evaluate=evaluate, refuse=refuse, ahead=1)
    assert len(evaluated) == 3 and seen[1].shape == (32, 64)


def test_few_images_are_under_way_at_once():
    """Memory does not grow with the number of images: finished ones are handed on before many others begin."""
    started, finished, most = set(), 0, 0
    images = torch.linspace(0, 1, 200).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8)

    def recorder(batch):
        nonlocal most
        started.update((199 * batch.mean((1, 2, 3))).round().int().tolist())
        most = max(most, len(started) - finished)
        return batch.flatten(1)

    small = {**SAMPLING, "sigma": 1e-6, "batch_size": 64, "looks": [20, 40, 80]}
    for _ in sample(recorder, images, range(200), "set", **small, stopping=StopAtLook(last=[80] * 200)):
        finished += 1
    assert finished == 200 and most <= 10


def test_large_images_come_in_smaller_batches():
    shapes = ((1, 8, 8), (3, 32, 32), (3, 224, 224), (3, 3000, 3000))
    assert [default_batch_size(shape, "cuda") for shape in shapes] == [500, 500, 53, 1]
    assert [default_batch_size(shape, "cpu") for shape in shapes] == [500, 128, 2, 1]


@pytest.mark.parametrize("change", [{"sigma": 0}, {"looks": [0]}, {"batch_size": 0}])
def test_settings_below_one_are_refused(change):
    with pytest.raises(InputError, match="draws" if "looks" in change else next(iter(change))):
        draws_of(**change)


def test_networks_behind_one_denoiser_share_its_pass():
    denoiser, batch = CountingDenoiser(), IMAGES + 0.1
    alone = DenoisedNetwork(small_network(), denoiser, 0.25)
    joint = JointNetwork(
        DenoisedNetwork(small_network(), denoiser, 0.25), nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), 3
    )
    other = DenoisedNetwork(small_network(), denoiser, 0.5)
    expected = [one(batch) for one in (alone, joint, other)]
    denoiser.images = 0
    with shared_denoising([alone, joint, other, small_network()]):
        shared = [one(batch) for one in (alone, joint, other)]
    assert denoiser.images == 2 * len(batch)  # once at each sigma
    assert all(torch.equal(*pair) for pair in zip(expected, shared, strict=True))
    alone(batch)
    assert denoiser.images == 3 * len(batch)


def test_another_batch_is_denoised_anew():
    denoiser = CountingDenoiser()
    one = DenoisedNetwork(nn.Flatten(), denoiser, 0.25)
    with shared_denoising([one]):
        first, second = one(IMAGES), one(IMAGES.clone() / 2)
    assert denoiser.images == 2 * len(IMAGES) and not torch.equal(first, second)


def test_the_shared_pass_is_used_by_several_detectors():
    import oodcert

    denoiser = CountingDenoiser()
    detectors = {str(i): Detector(DenoisedNetwork(small_network(), denoiser, 0.25)) for i in range(3)}
    oodcert.certify(detectors, IMAGES, 0.25, n=100, batch_size=100)
    assert denoiser.images == 700
