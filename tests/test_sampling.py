import numpy as np
import pytest
import torch
from torch import nn

from oodcert.certification.labels import certify_labels
from oodcert.certification.sampling import sample_logits
from oodcert.certification.scores import certify
from oodcert.detector import Detector
from oodcert.errors import InputError
from oodcert.networks import build_network

IMAGES = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))
SETTINGS = {"sigma": 0.25, "n": 100, "seed": 0, "batch_size": 32}


def network():
    torch.manual_seed(0)
    return build_network({"name": "cnn", "width": 4}, (1, 8, 8), 3).eval()


def draws(images=IMAGES, ids=range(7), **changes):
    return torch.stack(list(sample_logits(network(), images, ids, "set", **{**SETTINGS, **changes})))


def test_every_image_gets_its_own_draws_in_order():
    everything = draws()
    assert everything.shape == (7, 100, 3)
    order = [3, 0, 6]
    assert torch.equal(draws(IMAGES[order], order), everything[order])


@pytest.mark.parametrize("shards", [2, 5])
def test_shards_do_not_change_a_bit(shards):
    parts = [draws(IMAGES[i], i.tolist()) for i in torch.arange(7).tensor_split(shards)]
    assert torch.equal(torch.cat(parts), draws())


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_batch_size_changes_rounding_alone(batch_size):
    assert torch.allclose(draws(batch_size=batch_size), draws(), atol=1e-5)


def test_the_network_sees_the_stated_noise():
    seen = []

    class Recorder(nn.Module):
        def forward(self, images):
            seen.append(images)
            return images.flatten(1)

    list(sample_logits(Recorder(), 0.5 + 0 * IMAGES, range(7), "set", **{**SETTINGS, "n": 1000, "batch_size": 500}))
    noise = torch.cat(seen) - 0.5
    assert abs(noise.mean()) < 0.002 and abs(noise.std() - 0.25) < 0.002


def test_certify_gives_a_row_per_image_bound_and_radius():
    table = certify(Detector(network()), IMAGES, sigma=0.25, radii=[0.0, 0.25], n=100, alpha=0.01)
    assert len(table) == 7 * 2 * 2
    expected = ["image", "bound", "sigma", "radius", "estimate", "lower", "upper", "n", "alpha"]
    assert table.columns.tolist() == expected
    scores = draws().double().softmax(2).amax(2).numpy()
    named = certify(Detector(network()), IMAGES, 0.25, [0.0], 100, name="set", batch_size=32)
    gaussian = named[named["bound"] == "gaussian"]
    assert np.allclose(gaussian["estimate"], scores.mean(1))
    percentile = named[named["bound"] == "percentile"]
    assert np.allclose(percentile["estimate"], np.sort(scores, 1)[:, 49])


def test_certify_takes_unbounded_scores_by_percentile():
    table = certify(Detector(network(), "energy"), IMAGES, 0.25, [0.0], 100, bounds=["percentile"])
    assert np.isfinite(table[["lower", "upper"]]).all(axis=None)
    with pytest.raises(InputError, match="percentile"):
        certify(Detector(network(), "max_logit"), 0 * IMAGES, 0.25, [0.0], 100, bounds=["gaussian"])


@pytest.mark.parametrize("change", [{"sigma": 0}, {"n": 0}, {"batch_size": 0}])
def test_settings_below_one_are_refused(change):
    with pytest.raises(InputError, match=next(iter(change))):
        draws(**change)


def test_nan_logits_stop_the_certificate():
    broken = network()
    broken[-1].bias.data[0] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        certify(Detector(broken), IMAGES, 0.25, [0.0], 10)


class Sign(nn.Module):
    """Class 1 where the mean pixel exceeds one half: its smoothed label is known in closed form."""

    def forward(self, images):
        margin = images.flatten(1).mean(1) - 0.5
        return torch.stack([-margin, margin], 1)


def test_certified_radius_never_exceeds_the_true_distance():
    images = torch.linspace(0.3, 0.7, 21).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    distance = 8 * (images[:, 0, 0, 0] - 0.5).abs().numpy()
    table = certify_labels(Sign(), images, (images[:, 0, 0, 0] > 0.5).long(), sigma=0.5, n0=50, n=1000)
    assert (table["radius"] <= distance + 1e-6).all()
    assert (table["radius"] > 0.8 * np.minimum(distance, 1.0))[distance > 0.5].all()
    assert table["correct"][distance > 0.5].all()


def test_an_undecided_image_abstains():
    table = certify_labels(Sign(), torch.full((1, 1, 8, 8), 0.5), [1], sigma=0.5, n0=50, n=200)
    assert table.loc[0, "prediction"] == -1 and table.loc[0, "radius"] == 0 and not table.loc[0, "correct"]
