"""Networks in bfloat16 by emulation on the CPU, and compiled for shapes that do not change."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from conftest import checked, read_config
from oodcert.certification.certify import certify, marked_scores
from oodcert.certification.certify_labels import certify_labels
from oodcert.certification.monte_carlo import sample
from oodcert.certification.precision import compiled
from oodcert.certification.smoothing_bounds import score_bounds
from oodcert.data.sets import id_sets
from oodcert.errors import InputError
from oodcert.models.architectures.denoiser import DiffusionDenoiser, cosine_schedule
from oodcert.models.architectures.patch_unet import PatchUNet
from oodcert.models.detector import Detector
from oodcert.models.networks import build_network
from oodcert.models.wrappers import DenoisedNetwork, JointNetwork
from oodcert.runtime.device_noise import device_noise
from smoothed_networks import IMAGES, CountingDenoiser, small_network

SIGMA, N, ALPHA = 0.25, 400, 0.01


@pytest.fixture(scope="module")
def trained():
    """A classifier of digits under noise, and 20 test images."""
    sets = id_sets(checked(read_config()).data, None)
    images, labels = torch.from_numpy(sets["id_train"].floats()), torch.from_numpy(sets["id_train"].labels)
    torch.manual_seed(0)
    classifier = build_network({"name": "cnn", "width": 8}, (1, 8, 8), 8)
    optimizer = torch.optim.Adam(classifier.parameters(), 0.01)
    for _ in range(60):
        loss = cross_entropy(classifier(images + SIGMA * torch.randn_like(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5
    return Detector(classifier), torch.from_numpy(sets["id_test"].first(20).floats())


def drawn(detector, images, precision, seed=0):
    """Scores [N, n] on the noise of bfloat16, of the network in either precision."""
    sampled = sample(
        lambda batch: marked_scores({"": detector}, batch, precision),
        images,
        range(len(images)),
        "set",
        sigma=SIGMA,
        looks=[N],
        seed=seed,
        batch_size=500,
        precision="bfloat16",
    )
    return np.stack([draws[:, 0] for _, draws in sampled])


def bounds_of(scores, radius):
    """Estimate, lower and upper bound of each image by kind: [N, 3]."""
    bounds = [score_bounds(["percentile", "cdf"], row, SIGMA, [radius], ALPHA) for row in scores]
    return {kind: np.array([np.hstack(one[kind]) for one in bounds]) for kind in bounds[0]}


def test_bfloat16_changes_less_than_the_monte_carlo_error(trained):
    """On the same noise, at radius 0 of the width of each interval, and at others of what other noise would change."""
    exact, rounded = (drawn(*trained, precision) for precision in ("float32", "bfloat16"))
    other = drawn(*trained, "float32", seed=1)
    assert 1e-4 < abs(exact - rounded).max() < 0.1  # single scores do change
    assert (abs(exact.mean(1) - rounded.mean(1)) < exact.std(1) / N**0.5 / 2).all()
    for radius in (0.0, 0.25):
        before, after, anew = (bounds_of(scores, radius) for scores in (exact, rounded, other))
        for kind, bounds in before.items():
            changed = abs(after[kind] - bounds)
            assert changed.mean() < abs(anew[kind] - bounds).mean() / 4
            assert radius > 0 or (changed.max(1) < bounds[:, 2] - bounds[:, 1]).all()


def test_scores_and_joint_probabilities_are_no_bfloat16(trained):
    """Autocast ends at the network: were it, or its logits' type, to reach the score, that would have 8 bits."""
    detector, images = trained
    seen = []

    def score(logits):
        seen.append((logits.dtype, torch.is_autocast_enabled("cpu")))
        return logits.softmax(1).amax(1)

    scores = drawn(Detector(detector.network, score), images, "bfloat16")
    assert set(seen) == {(torch.float64, False)}
    assert (scores != torch.from_numpy(scores).bfloat16().double().numpy()).mean() > 0.9
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    joint = JointNetwork(detector.network, discriminator, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits, id_logits = detector.network(images).double(), discriminator(images).double()
        in_bfloat16 = joint(images)
    expected = JointNetwork(lambda _: logits, lambda _: id_logits, 8)(images)
    assert logits.equal(logits.bfloat16().double()) and torch.allclose(in_bfloat16.double(), expected, atol=1e-5)


def test_the_public_certificates_take_the_precision(trained):
    detector, images = trained
    settings = {"radii": [0.0], "n": N, "alpha": ALPHA, "bounds": ["gaussian"], "precision": "bfloat16"}
    table = certify(detector, images, SIGMA, **settings, name="set")
    assert np.allclose(table["estimate"], drawn(detector, images, "bfloat16").mean(1))
    shards = [certify(detector, images[i : i + 1], SIGMA, **settings, ids=[i], name="set") for i in (3, 11)]
    assert np.allclose([shard["lower"][0] for shard in shards], table["lower"][[3, 11]], atol=1e-6)
    classes = detector.network(images).argmax(1)
    labels = [
        certify_labels(detector.network, images, classes, SIGMA, n=N, precision=precision)
        for precision in ("float32", "bfloat16")
    ]
    assert abs(labels[0]["radius"] - labels[1]["radius"]).mean() < 0.05 and labels[1]["correct"].mean() > 0.8
    for certificate in (
        lambda: certify(detector, images, SIGMA, precision="float16"),
        lambda: certify_labels(detector.network, images, classes, SIGMA, precision="half"),
    ):
        with pytest.raises(InputError, match="precision = '"):
            certificate()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_logits_that_are_not_finite_are_refused_in_every_precision(precision):
    broken = small_network()
    broken[-1].bias.data[0] = float("inf")
    with pytest.raises(InputError, match="NaN or infinite logits for 32 of 32 images"):
        certify(Detector(broken), IMAGES, SIGMA, [0.0], 64, batch_size=32, precision=precision)
    with pytest.raises(InputError, match="NaN or infinite logits for 32 of 32 images"):
        certify_labels(broken, IMAGES, [0] * 7, SIGMA, 10, 54, batch_size=32, precision=precision)
    careless = Detector(broken, lambda logits: (logits[:, 1] > 0).double())
    with pytest.raises(InputError, match="not finite, for 32 of 32"):
        certify(careless, IMAGES, SIGMA, [0.0], 64, batch_size=32, precision=precision)


def test_noise_of_bfloat16_is_made_on_the_device_in_channels_last():
    batches = []

    def recorder(batch):
        batches.append(batch)
        return batch.flatten(1)

    colours = IMAGES.repeat(1, 3, 1, 1)
    rows = dict(
        sample(
            recorder,
            colours,
            [*range(10, 17)],
            "a",
            sigma=0.5,
            looks=[20],
            seed=1,
            batch_size=32,
            precision="bfloat16",
        )
    )
    assert all(batch.is_contiguous(memory_format=torch.channels_last) and len(batch) == 32 for batch in batches)
    noise = device_noise(1, "a", torch.full((20,), 12), torch.arange(20), (3, 8, 8))
    assert np.array_equal(rows[2], (colours[2] + 0.5 * noise).flatten(1).numpy())


class Backend:
    """A compiler that runs a graph as it is, and counts graphs."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, _):
        self.graphs += 1
        return graph.forward


def denoised(denoiser):
    """A plain, a denoised and a joint denoised network, the latter two behind one denoiser."""
    classifier, discriminator = small_network(), nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    networks = small_network(), DenoisedNetwork(classifier, denoiser, SIGMA)
    return *networks, JointNetwork(DenoisedNetwork(small_network(), denoiser, SIGMA), discriminator, 3)


def test_components_are_compiled_once_and_give_what_they_give_uncompiled():
    torch.manual_seed(0)
    denoiser = DiffusionDenoiser(PatchUNet((1, 8, 8), [8], 2).eval(), cosine_schedule(200))
    detectors = {str(i): Detector(one) for i, one in enumerate(denoised(denoiser))}
    networks, backend = [one.network for one in detectors.values()], Backend()
    settings = {"n": 100, "bounds": ["percentile", "cdf"], "batch_size": 64, "precision": "bfloat16"}
    expected = certify(detectors, IMAGES, SIGMA, [0.0], **settings)
    counts = []
    for _ in range(3):
        with compiled(networks, {"backend": backend}):
            table = certify(detectors, IMAGES, SIGMA, [0.0], **settings)
        assert table.equals(expected)
        counts.append(backend.graphs)
    assert 3 <= counts[0] <= 5 and len(set(counts)) == 1  # at most one graph a component, however often it is called
    assert not any("forward" in vars(module) for one in networks for module in one.modules())


def test_compiled_networks_still_share_a_denoisers_pass():
    denoiser, backend = CountingDenoiser(), Backend()
    detectors = {str(i): Detector(one) for i, one in enumerate(denoised(denoiser)[1:])}
    with compiled([one.network for one in detectors.values()], {"backend": backend}):
        certify(detectors, IMAGES, SIGMA, [0.0], n=100, batch_size=100)
    assert denoiser.images == 700 and backend.graphs


def test_a_module_gets_its_own_forward_back_after_an_error():
    module = nn.Flatten()
    module.forward = own = lambda images: images
    with pytest.raises(ZeroDivisionError), compiled([module], {"backend": "eager"}):
        assert module.forward is not own
        1 / 0  # noqa: B018
    assert module.forward is own
