import math
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn

from conftest import RECIPE
from oodcert.certification.interval_propagation import interval_bounds
from oodcert.config.components import known_components
from oodcert.config.models import recipe_model
from oodcert.data.imageset import ImageSet
from oodcert.errors import InputError
from oodcert.models.architectures.denoiser import DiffusionDenoiser, cosine_schedule
from oodcert.models.components import build_component
from oodcert.models.networks import build_network
from oodcert.training import loop, train_component
from oodcert.training.discriminator import discriminator_loss
from oodcert.training.oe import outlier_exposure_loss
from oodcert.training.resume import save_state

NETWORKS = {
    "classifier": {"name": "cnn", "width": 4},
    "good": {"name": "ibp_cnn_xl", "width": 4},
    "discriminator": {"name": "ibp_cnn_s", "width": 8},
    "denoiser": {"channels": [8], "patch": 2, "timesteps": 50},
}
ATTACK = {"epsilon": 0.05, "attack_iterations": 2, "outlier_weight": 1.0}
SETTINGS = {
    "discriminator": {"epsilon": 0.02, "epsilon_ramp": 0.5, "weight_ramp": 0.0, "bias_shift": 0.0},
    "oe": {"outlier_weight": 1.0},
    "prood": {"outlier_weight": 1.0},
    "logitnorm": {"temperature": 0.04},
    "vos": {"queue": 20, "start": 0.4, "candidates": 100, "energy_weight": 0.1},
    "acet": ATTACK,
    "atom": {**ATTACK, "pool": 40, "quantile": 0.125},
    "good": {"epsilon": 0.02, "quantile": 0.8, "outlier_weight": 1.0, "epsilon_ramp": 0.5, "weight_ramp": 0.0},
}


def toy_set(name, bright, n=64):
    """Two easy classes, a bright left or right half; outliers are noise."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 60 if bright else 256, (n, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(n, dtype=np.int64) % 2
    if bright:
        images[labels == 0, :, :4] += 180
        images[labels == 1, :, 4:] += 180
    return ImageSet(name, images, labels if bright else np.full(n, -1), np.arange(n))


def train(component, components=None, checkpoint=None, **changes):
    rate = 0.01 if component in ("denoiser", "discriminator", "good") else 0.05
    recipe = {**RECIPE, **SETTINGS.get(component, {}), "learning_rate": rate}
    return train_component(
        component,
        components or {},
        toy_set("id", True),
        toy_set("out", False),
        networks=NETWORKS,
        num_classes=2,
        recipe=recipe_model(component)(**{**recipe, **changes}),
        seed=0,
        checkpoint=checkpoint,
    )


def losses(curve):
    return curve.loc[curve["term"] == "total", "value"].tolist()


def images_of(bright):
    return torch.from_numpy(toy_set("test", bright).floats())


def test_outlier_exposure_loss_by_hand():
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]])
    terms = outlier_exposure_loss(probabilities.log(), torch.tensor([1]), weight=2.0)
    assert terms["id"].item() == pytest.approx(-math.log(0.25), rel=1e-5)
    assert terms["outliers"].item() == pytest.approx(-2 * (2 * math.log(0.2) + math.log(0.6)) / 3, rel=1e-5)


def test_discriminator_loss_by_hand():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    nn.init.constant_(network[1].weight, 1.0)
    nn.init.constant_(network[1].bias, -2.0)
    id_images, outliers = torch.full((1, 1, 2, 2), 0.75), torch.full((1, 1, 2, 2), 0.25)
    terms = discriminator_loss(network, id_images, outliers, epsilon=0.1, weight=0.5)
    # logits: 4 · 0.75 - 2 = 1 for the ID image; at most 4 · 0.35 - 2 = -0.6 for the outlier
    assert terms["id"].item() == pytest.approx(math.log1p(math.exp(-1)), rel=1e-5)
    assert terms["outliers"].item() == pytest.approx(0.5 * math.log1p(math.exp(-0.6)), rel=1e-5)


def test_plain_learns_the_classes():
    network, curve = train("plain")
    assert losses(curve)[-1] < losses(curve)[0]
    assert (network(images_of(True)).argmax(1) == torch.arange(64) % 2).float().mean() > 0.9


def test_outlier_exposure_lowers_the_confidence_on_outliers():
    network, _ = train("oe")
    id_images, outliers = (network(images_of(bright)).softmax(1).amax(1).mean() for bright in (True, False))
    assert outliers < 0.7 < id_images


def test_the_discriminator_keeps_its_verdict_within_the_box():
    network, _ = train("discriminator", epochs=30)
    outliers = images_of(False)
    upper = interval_bounds(network, outliers - 0.02, outliers + 0.02)[1]
    assert network(images_of(True)).mean() > upper.mean() + 1


def test_bias_shift_moves_the_discriminator_alone():
    plain, shifted = train("discriminator")[0], train("discriminator", bias_shift=3.0)[0]
    images = images_of(True)
    assert torch.allclose(shifted(images), plain(images) + 3, atol=1e-5)


def test_prood_leaves_its_discriminator_as_it_was():
    discriminator, _ = train("discriminator")
    before = {name: tensor.clone() for name, tensor in discriminator.state_dict().items()}
    network, curve = train("prood", {"discriminator": discriminator})
    assert all(torch.equal(before[name], tensor) for name, tensor in discriminator.state_dict().items())
    assert losses(curve)[-1] < losses(curve)[0] and not network.training


def test_the_denoiser_removes_noise():
    denoiser, curve = train("denoiser", epochs=60)
    clean = images_of(True)
    noisy = clean + 0.25 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    denoised = denoiser(noisy, 0.25)
    assert losses(curve)[-1] < losses(curve)[0] and denoised.min() >= 0 and denoised.max() <= 1
    assert ((denoised - clean) ** 2).mean() < 0.5 * ((noisy - clean) ** 2).mean()


@pytest.mark.parametrize("component", ["plain", "discriminator", "denoiser"])
@pytest.mark.parametrize("augmentation", ["none", "auto"])
def test_the_same_seed_trains_the_same_weights(component, augmentation):
    first, second = (train(component, augmentation=augmentation, epochs=2)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("component", known_components())
def test_an_interrupted_component_resumes_to_the_same_bits(component, tmp_path, monkeypatch):
    components = {"discriminator": train("discriminator", epochs=1)[0]}
    whole, curve = train(component, components, epochs=4)
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 0)
    monkeypatch.setattr(loop, "save_state", interrupt_after(2))
    with pytest.raises(KeyboardInterrupt):
        train(component, components, tmp_path / "state", epochs=4)
    monkeypatch.undo()
    resumed, again = train(component, components, tmp_path / "state", epochs=4)
    assert again.equals(curve)
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in resumed.state_dict().items())


def interrupt_after(epochs):
    def save(path, mark, epoch, *state):
        save_state(path, mark, epoch, *state)
        if epoch == epochs:
            raise KeyboardInterrupt

    return save


def test_a_checkpoint_of_another_discriminator_is_not_resumed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 0)
    first, other = (train("discriminator", epochs=1, bias_shift=shift)[0] for shift in (0.0, 1.0))
    train("prood", {"discriminator": first}, tmp_path / "state", epochs=2)
    train("prood", {"discriminator": first}, tmp_path / "state", epochs=2)
    assert "another training" not in capsys.readouterr().err
    train("prood", {"discriminator": other}, tmp_path / "state", epochs=2)
    assert "another training" in capsys.readouterr().err


def test_a_missing_component_is_named():
    with pytest.raises(InputError, match="discriminator"):
        train("prood")


def test_a_diverging_loss_is_refused():
    with pytest.raises(InputError, match=r"'id' .* epoch 1 of 8: lower this component's learning_rate"):
        train("plain", learning_rate=1e30)


def test_every_component_has_a_trainer_that_declares_its_needs_and_settings(config):
    assert known_components().keys() == config["training"].keys()
    for name, component in known_components().items():
        trainer = import_module(f"oodcert.training.{name}")
        assert component.settings == trainer.SETTINGS
        assert getattr(trainer, "NEEDS", ()) == component.needs
        assert getattr(trainer, "EXTRA_OUTPUTS", 0) == component.extra_outputs
        assert {*RECIPE, *component.settings} == config["training"][name].keys()


def test_unknown_network_is_refused():
    with pytest.raises(InputError, match="'resnet5'"):
        build_network({"name": "resnet5", "width": 4}, (1, 8, 8), 2)


class Oracle(nn.Module):
    """The exact noise of a known image: the denoise-once rule must give that image back."""

    def __init__(self, clean, alphas):
        super().__init__()
        self.clean, self.alphas = 2 * clean - 1, alphas
        self.timesteps = []

    def forward(self, noisy, timestep):
        self.timesteps.append(timestep[0].item())
        signal = self.signal
        return (noisy - signal * self.clean) / math.sqrt(1 - signal**2)


@pytest.mark.parametrize("sigma", [0.05, 0.12, 0.25, 1.0])
def test_denoise_once_follows_the_schedule(sigma):
    alphas = cosine_schedule(1000)
    clean = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    oracle = Oracle(clean, alphas)
    oracle.signal = 1 / math.sqrt(1 + 4 * sigma**2)
    denoised = DiffusionDenoiser(oracle, alphas)(clean + sigma * torch.randn_like(clean), sigma)
    assert torch.allclose(denoised, clean, atol=1e-4)
    levels = ((1 - alphas) / alphas).sqrt() / 2
    below = int(oracle.timesteps[0])
    assert levels[below] <= sigma <= levels[below + 1]


def test_a_sigma_outside_the_schedule_is_refused():
    with pytest.raises(InputError, match="covers sigma"):
        DiffusionDenoiser(nn.Identity(), cosine_schedule(50)).timestep(1e-6)


def test_a_component_starts_from_another():
    plain = train("plain")[0]
    still = {"start_from": "plain", "epochs": 1, "learning_rate": 1e-30}
    again = train("oe", {"plain": plain}, **still)[0]
    for name, tensor in plain.named_parameters():
        torch.testing.assert_close(dict(again.named_parameters())[name], tensor)


def test_a_class_of_outliers_is_added_to_the_classes_one_starts_from():
    plain = train("plain")[0]
    atom = train("atom", {"plain": plain}, start_from="plain", epochs=1, learning_rate=1e-30)[0]
    assert atom[-1].weight.shape[0] == plain[-1].weight.shape[0] + 1
    torch.testing.assert_close(atom[-1].weight[:-1], plain[-1].weight)
    assert (atom[-1].weight[-1] != 0).any()


def test_a_component_cannot_start_from_another_network():
    components = {"plain": build_component("plain", {"classifier": {"name": "cnn", "width": 8}}, (1, 8, 8), 2)}
    with pytest.raises(InputError, match="same network"):
        train("oe", components, start_from="plain")
    more = {"plain": build_component("plain", NETWORKS, (1, 8, 8), 3)}
    with pytest.raises(InputError, match="fewer outputs"):
        train("oe", more, start_from="plain")
    with pytest.raises(InputError, match="needs the trained component plain"):
        train("oe", {}, start_from="plain")
