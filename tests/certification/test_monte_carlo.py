"""Draws are keyed and batches have one shape: shards, order and interruption change no bit of a certificate."""

import numpy as np
import pytest
import torch
from torch import nn

from oodcert.certification.monte_carlo import default_batch_size, sample, shared_denoising
from oodcert.errors import InputError
from oodcert.models.detector import Detector
from oodcert.models.networks import build_network
from oodcert.models.wrappers import DenoisedNetwork, JointNetwork

IMAGES = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))
SETTINGS = {"sigma": 0.25, "stages": [100], "seed": 0, "batch_size": 32}


def network():
    torch.manual_seed(0)
    return build_network({"name": "cnn", "width": 4}, (1, 8, 8), 3).eval()


def draws(images=IMAGES, ids=range(7), evaluate=None, **changes):
    found = dict(sample(evaluate or network(), images, ids, "set", **{**SETTINGS, **changes}))
    return [found[position] for position in range(len(images))]


def test_every_image_gets_its_own_draws():
    everything = draws()
    assert len(everything) == 7 and everything[0].shape == (100, 3)
    order = [3, 0, 6]
    assert np.array_equal(draws(IMAGES[order], order), [everything[position] for position in order])


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_shards_do_not_change_a_bit(shards):
    parts = [draws(IMAGES[i], i.tolist()) for i in torch.arange(7).tensor_split(shards)]
    assert np.array_equal(np.concatenate(parts), draws())


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_batch_size_changes_rounding_alone(batch_size):
    assert np.allclose(draws(batch_size=batch_size), draws(), atol=1e-5)
    noise = [draws(evaluate=lambda batch: batch.flatten(1), batch_size=size) for size in (batch_size, 32)]
    assert np.array_equal(*noise)


def test_the_network_sees_the_stated_noise():
    seen = np.stack(draws(0.5 + 0 * IMAGES, evaluate=lambda batch: batch.flatten(1), stages=[1000])) - 0.5
    assert abs(seen.mean()) < 0.002 and abs(seen.std() - 0.25) < 0.002
    assert len(np.unique(seen)) > 0.9 * seen.size


def test_every_pass_has_the_same_shape_and_one_stage_keeps_the_order():
    shapes = []

    def recorder(batch):
        shapes.append(tuple(batch.shape))
        return batch.flatten(1)

    order = [position for position, _ in sample(recorder, IMAGES, range(7), "set", **SETTINGS)]
    assert order == list(range(7)) and set(shapes) == {(32, 1, 8, 8)} and len(shapes) == -(-700 // 32)


def test_an_image_stops_at_the_stage_where_it_is_settled():
    last = [0, 1, 2, 0, 1, 2, 2]
    looks = []

    def settled(position, stage, so_far):
        looks.append((position, stage, len(so_far)))
        return stage == last[position]

    stages = [10, 30, 100]
    stopped = draws(stages=stages, settled=settled)
    everything = draws()
    assert [len(one) for one in stopped] == [stages[stage] for stage in last]
    for early, full in zip(stopped, everything, strict=True):
        assert np.allclose(early, full[: len(early)], atol=1e-6)
    assert sorted(looks) == [(p, s, stages[s]) for p in range(7) for s in range(min(last[p] + 1, 2))]


@pytest.mark.parametrize("ahead", [1, 2])
def test_batches_ahead_of_their_results_change_no_draw_and_fill_up(ahead):
    """As on a GPU, which has the next batch before the rows of the last one are looked at."""
    last, shapes = [0, 1, 2, 0, 1, 2, 2], []

    def recorder(batch):
        shapes.append(batch.shape)
        return network()(batch)

    settings = {"stages": [10, 30, 100], "settled": lambda position, stage, _: stage == last[position]}
    expected = draws(evaluate=recorder, **settings)
    alone = len(shapes)
    found = draws(evaluate=recorder, **settings, ahead=ahead)
    for one, other in zip(expected, found, strict=True):
        assert len(one) == len(other) and np.allclose(one, other, atol=1e-6)
    assert len(shapes) <= 2 * alone + 1 and len(set(shapes)) == 1
    assert np.array_equal(draws(ahead=ahead), draws())


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
        draws(evaluate=evaluate, refuse=refuse, ahead=1)
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

    small = {**SETTINGS, "sigma": 1e-6, "batch_size": 64, "stages": [20, 40, 80]}
    for _ in sample(recorder, images, range(200), "set", **small, settled=lambda *_: False):
        finished += 1
    assert finished == 200 and most <= 10


def test_large_images_come_in_smaller_batches():
    shapes = ((1, 8, 8), (3, 32, 32), (3, 224, 224), (3, 3000, 3000))
    assert [default_batch_size(shape, "cuda") for shape in shapes] == [500, 500, 53, 1]
    assert [default_batch_size(shape, "cpu") for shape in shapes] == [500, 128, 2, 1]


@pytest.mark.parametrize("change", [{"sigma": 0}, {"stages": [0]}, {"batch_size": 0}])
def test_settings_below_one_are_refused(change):
    with pytest.raises(InputError, match="draws" if "stages" in change else next(iter(change))):
        draws(**change)


class Counting(nn.Module):
    """A denoiser that counts the images it is given."""

    def __init__(self):
        super().__init__()
        self.images = 0

    def forward(self, noisy, sigma):
        self.images += len(noisy)
        return (noisy / (1 + sigma)).clamp(0, 1)


def test_networks_behind_one_denoiser_share_its_pass():
    denoiser, batch = Counting(), IMAGES + 0.1
    alone = DenoisedNetwork(network(), denoiser, 0.25)
    joint = JointNetwork(DenoisedNetwork(network(), denoiser, 0.25), nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), 3)
    other = DenoisedNetwork(network(), denoiser, 0.5)
    expected = [one(batch) for one in (alone, joint, other)]
    denoiser.images = 0
    with shared_denoising([alone, joint, other, network()]):
        shared = [one(batch) for one in (alone, joint, other)]
    assert denoiser.images == 2 * len(batch)  # once at each sigma
    assert all(torch.equal(*pair) for pair in zip(expected, shared, strict=True))
    alone(batch)
    assert denoiser.images == 3 * len(batch)


def test_another_batch_is_denoised_anew():
    denoiser = Counting()
    one = DenoisedNetwork(nn.Flatten(), denoiser, 0.25)
    with shared_denoising([one]):
        first, second = one(IMAGES), one(IMAGES.clone() / 2)
    assert denoiser.images == 2 * len(IMAGES) and not torch.equal(first, second)


def test_the_shared_pass_is_used_by_several_detectors():
    import oodcert

    denoiser = Counting()
    detectors = {str(i): Detector(DenoisedNetwork(network(), denoiser, 0.25)) for i in range(3)}
    oodcert.certify(detectors, IMAGES, 0.25, n=100, batch_size=100)
    assert denoiser.images == 700
