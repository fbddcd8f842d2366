"""oodcert.certified_roc: what it takes and returns. The bounds themselves are attacked in test_roc_bounds."""

import numpy as np
import pytest
import torch
from torch import nn

import oodcert
from oodcert.errors import InputError

SIGMA = 0.25


@pytest.fixture(scope="module")
def images():
    """ID and OOD images that a linear score tells apart."""
    generator = torch.Generator().manual_seed(0)
    bright, dark = ((level + 0.1 * torch.rand(30, 1, 4, 4, generator=generator)).clamp(0, 1) for level in (0.75, 0.45))
    return bright, dark


@pytest.fixture(scope="module")
def network():
    linear = nn.Linear(16, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.stack([torch.full((16,), 0.25), torch.full((16,), -0.25)]))
        linear.bias.zero_()
    return nn.Sequential(nn.Flatten(), linear)


@pytest.fixture(scope="module")
def detector(network):
    return oodcert.Detector(network, score=lambda logits: logits[:, 0] - logits[:, 1])


def test_both_tables_and_the_same_numbers_again(detector, images):
    first, again = (oodcert.certified_roc(detector, *images, SIGMA, radii=[0.5, 0.0]) for _ in range(2))
    assert first.metrics.columns.tolist() == ["radius", "auc", "aupr", "fpr95", "threshold"]
    assert first.curve.columns.tolist() == ["radius", "threshold", "fpr", "tpr"]
    assert first.metrics["radius"].tolist() == [0, 0.5] and first.metrics["auc"].is_monotonic_decreasing
    assert first.metrics.equals(again.metrics) and first.curve.equals(again.curve)
    other = oodcert.certified_roc(detector, *images, SIGMA, radii=[0.5, 0.0], seed=1)
    assert not first.metrics.equals(other.metrics)


def test_detectors_by_name_see_the_draws_that_each_alone_sees(network, detector, images):
    several = {"linear": detector, "msp": oodcert.Detector(network)}
    together = oodcert.certified_roc(several, *images, SIGMA, radii=0.25, draws=8)
    assert together.metrics["detector"].tolist() == ["linear", "msp"]
    alone = oodcert.certified_roc(detector, *images, SIGMA, radii=0.25, draws=8)
    assert together.metrics.iloc[[0], 1:].reset_index(drop=True).equals(alone.metrics)


def test_the_worst_move_of_every_image_keeps_what_is_certified(detector, images):
    """All OOD images are moved along the gradient, which is the worst that can be done to a linear score."""
    known, strange = images
    certified = oodcert.certified_roc(detector, known, strange, SIGMA, radii=[0.25], draws=400)
    moved = (strange + 0.25 / 4).clamp(0, 1)
    assert ((moved - strange).flatten(1).norm(dim=1) - 0.25).abs().max() < 1e-5
    generator = torch.Generator().manual_seed(5)

    def noisy(batch):
        draws = batch + SIGMA * torch.randn(400, *batch.shape, generator=generator)
        return detector.raw_score(draws.flatten(0, 1)).detach().numpy()

    scores = noisy(known), noisy(moved)
    attacked = oodcert.ood_metrics(*scores)
    row = certified.metrics.iloc[0]
    assert row["auc"] <= attacked["auc"] <= row["auc"] + 0.1
    assert (scores[1] >= row["threshold"]).mean() <= row["fpr95"]
    assert (scores[0] >= row["threshold"]).mean() >= 0.95


def test_a_population_takes_one_draw_an_image(detector, images):
    calls = []
    hook = detector.network.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    found = oodcert.certified_roc(detector, *images, SIGMA, draws=50, population=True, batch_size=10)
    hook.remove()
    assert sum(calls) <= 2 * 30 + 20
    whole = oodcert.certified_roc(detector, *images, SIGMA, draws=50)
    assert (found.metrics["auc"] < whole.metrics["auc"]).all()


def test_further_tries_and_moved_id_images_cost(detector, images):
    plain, tries, both = (
        oodcert.certified_roc(detector, *images, SIGMA, radii=0.25, **more).metrics.iloc[0]
        for more in ({}, {"tries": 10}, {"id_moved": True})
    )
    assert tries["auc"] < plain["auc"] and both["auc"] < plain["auc"]
    assert tries["fpr95"] > plain["fpr95"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"draws": 2.5}, "n = 2.5"),
        ({"draws": 0}, "n = 0"),
        ({"confidence": 1.0}, "confidence = 1.0"),
        ({"confidence": 99}, "confidence = 99"),
        ({"tries": 0}, "tries = 0"),
        ({"radii": [-0.1]}, "radii"),
        ({"radii": []}, "radii"),
        ({"sigma": 0}, "sigma = 0"),
        ({"id_ids": [1] * 30}, "ids"),
        ({"ood_images": np.zeros((3, 4, 4), np.float32)}, "[N, C, H, W]"),
        ({"id_images": torch.full((2, 1, 4, 4), 2.0)}, "[0, 1]"),
    ],
)
def test_what_cannot_be_used_is_refused(detector, images, changes, word):
    arguments = {"id_images": images[0], "ood_images": images[1], "sigma": SIGMA} | changes
    with pytest.raises(InputError) as caught:
        oodcert.certified_roc(detector, **arguments)
    assert word in str(caught.value), caught.value
