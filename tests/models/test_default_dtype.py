"""torch's default dtype is the caller's own affair: it changes no result."""

import numpy as np
import pytest
import torch
from PIL import Image

import oodcert
from conftest import RECIPE
from oodcert.attacks.ood import linf_ensemble
from oodcert.config.models import recipe_model
from oodcert.data.imageset import ImageSet
from oodcert.models.components import build_component
from oodcert.models.released_checkpoints import load_checkpoint
from oodcert.training import train_component
from original_architectures import random_state, released_shapes

NETWORKS = {
    "classifier": {"name": "cnn", "width": 4},
    "discriminator": {"name": "ibp_cnn_s", "width": 2},
    "denoiser": {"name": "unet", "channels": [8], "patch": 2, "timesteps": 50},
}
FURTHER = {  # settings of a component's own
    "oe": {"outlier_weight": 1.0},
    "vos": {"queue": 4, "start": 0.0, "candidates": 50, "energy_weight": 0.1},
    "acet": {"epsilon": 0.05, "attack_iterations": 2, "outlier_weight": 1.0},
    "discriminator": {"epsilon": 0.02, "epsilon_ramp": 0.5, "weight_ramp": 0.0, "bias_shift": 0.0},
}
SHAPES = released_shapes()
IMAGES = torch.from_numpy(np.random.default_rng(0).random((3, 1, 8, 8), np.float32))


@pytest.fixture
def alike():
    """Asserts that a function gives the same tensors with either default dtype."""

    def check(compute):
        expected = compute()
        torch.set_default_dtype(torch.float64)
        found = compute()
        assert len(found) == len(expected) > 0
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype and torch.equal(one, other)
            assert one.dtype != torch.float64

    yield check
    torch.set_default_dtype(torch.float32)


def network(component="plain"):
    torch.manual_seed(0)
    return build_component(component, NETWORKS, (1, 8, 8), 4).eval()


def image_set(name, n=16):
    pixels = np.random.default_rng(len(name)).integers(0, 256, (n, 8, 8, 1), np.uint8)
    return ImageSet(name, pixels, np.arange(n) % 4 if name == "id" else np.full(n, -1), np.arange(n))


def test_images(alike, tmp_path):
    Image.new("RGB", (4, 4), (10, 20, 30)).save(tmp_path / "a.png")
    np.savez(tmp_path / "some.npz", images=np.zeros((2, 3, 3, 1), np.uint8))
    alike(lambda: [oodcert.load_images(tmp_path), oodcert.load_images(tmp_path / "some.npz", size=2)])


@pytest.mark.parametrize("component", ["plain", "discriminator", "denoiser"])
def test_networks(alike, component):
    alike(lambda: list(network(component).state_dict().values()))


def test_released_networks(alike, tmp_path):
    for format, source in (("prood-discriminator", "prood-joint"), ("logitnorm", "logitnorm")):
        shape = {name.removeprefix("detector."): one for name, one in SHAPES[source].items() if "base_" not in name}
        torch.save(random_state(shape), tmp_path / f"{format}.pt")
    images = IMAGES.repeat(1, 3, 4, 4)

    def loaded():
        networks = [load_checkpoint(path, path.stem) for path in sorted(tmp_path.glob("*.pt"))]
        with torch.inference_mode():
            return [one(images) for one in networks]

    alike(loaded)


@pytest.mark.parametrize("component", ["plain", "oe", "vos", "acet", "denoiser", "discriminator"])
def test_training(alike, component):
    augmentation = "auto" if component == "plain" else "flip_crop"
    own = {"epochs": 1, "augmentation": augmentation, "learning_rate": 0.01, **FURTHER.get(component, {})}
    recipe = recipe_model(component)(**{**RECIPE, **own})

    def trained():
        sets = {"id_set": image_set("id"), "outliers": image_set("out")}
        module, _ = train_component(component, {}, **sets, networks=NETWORKS, num_classes=4, seed=0, recipe=recipe)
        return list(module.state_dict().values())

    alike(trained)


@pytest.mark.parametrize("score", ["msp", "energy"])
def test_attacks(alike, score):
    def attacked():
        detector = oodcert.Detector(network(), score)
        budget = {"apgd": {"iterations": 5, "restarts": 1}, "pgd": {"iterations": 5, "restarts": 1}}
        candidates = linf_ensemble(
            detector, IMAGES, [0, 1, 2], "set", 0.1, **budget, square={"queries": 10}, draws=2, seed=0
        )
        return list(candidates.values())

    alike(attacked)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_certificates(alike, precision):
    def certified():
        denoised = oodcert.DenoisedNetwork(network(), network("denoiser"), sigma=0.25)
        table = oodcert.certify(oodcert.Detector(denoised), IMAGES, 0.25, n=20, alpha=0.1, precision=precision)
        votes = oodcert.certify_labels(denoised, IMAGES, torch.arange(3), sigma=0.25, n0=5, n=20, alpha=0.1)
        numbers = [*table.select_dtypes("number").to_numpy().ravel(), *votes.select_dtypes("number").to_numpy().ravel()]
        return [torch.tensor(np.array(numbers).view(np.int64))]

    alike(certified)


def test_interval_bounds(alike):
    alike(lambda: oodcert.interval_bounds(network(), IMAGES - 0.01, IMAGES + 0.01))
