"""The residual MLP as a denoiser's noise model, and how a denoiser's timestep is computed."""

from math import sqrt

import pytest
import torch

from oodcert.models.architectures.denoiser import DiffusionDenoiser, cosine_schedule
from oodcert.models.architectures.mlp_denoiser import ResidualMLP
from oodcert.models.components import build_component

SHAPE = (3, 4, 8)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ResidualMLP(SHAPE, 32)


def test_it_predicts_an_image_from_an_image_and_its_timestep(network):
    noisy = torch.randn(5, *SHAPE)
    early, late = network(noisy, torch.tensor([3.0])), network(noisy, torch.tensor([700.0]))
    assert early.shape == noisy.shape and not torch.allclose(early, late, atol=1e-3)


def test_one_timestep_stands_for_all_images(network):
    noisy, several = torch.randn(5, *SHAPE), torch.tensor([1.0, 400.0, 400.0, 20.5, 999.0])
    together = network(noisy, several)
    for image, timestep in enumerate(several):
        alone = network(noisy[image : image + 1], timestep[None])
        assert torch.allclose(together[image], alone[0], atol=1e-6)


def test_it_learns_to_denoise():
    """Images of one constant each: their mean is all there is to find in a noisy one."""
    torch.manual_seed(0)
    network, generator = ResidualMLP(SHAPE, 128), torch.Generator().manual_seed(0)
    denoiser = DiffusionDenoiser(network, cosine_schedule(200))
    schedule, optimizer = denoiser.alphas_cumprod.float(), torch.optim.Adam(network.parameters(), lr=0.003)
    for _ in range(400):
        images = (2 * torch.rand(128, 1, 1, 1, generator=generator) - 1).expand(-1, *SHAPE)
        timestep = torch.randint(200, (128,), generator=generator)
        noise, signal = torch.randn(images.shape, generator=generator), schedule[timestep].reshape(-1, 1, 1, 1)
        loss = (network(signal.sqrt() * images + (1 - signal).sqrt() * noise, timestep) - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    clean = torch.linspace(0.2, 0.8, 50).reshape(-1, 1, 1, 1).expand(-1, *SHAPE)
    noisy = clean + 0.25 * torch.randn(clean.shape, generator=generator)
    with torch.inference_mode():
        assert (denoiser(noisy, 0.25) - clean).square().mean().sqrt() < 0.5 * 0.25


def test_the_config_builds_it_by_its_name():
    component = build_component("denoiser", {"denoiser": {"name": "mlp", "width": 8, "timesteps": 300}}, SHAPE, 4)
    assert isinstance(component.noise_model, ResidualMLP) and len(component.alphas_cumprod) == 300
    assert component(torch.rand(2, *SHAPE), 0.25).shape == (2, *SHAPE)


@pytest.mark.parametrize("sigma", [0.05, 0.12, 0.25, 0.5, 1.0])
def test_the_timestep_has_the_noise_to_signal_ratio_of_sigma(sigma):
    schedule = cosine_schedule(1000)
    timestep = DiffusionDenoiser(None, schedule).timestep(sigma)
    before, after = (0.5 * sqrt((1 - schedule[t]) / schedule[t]) for t in (int(timestep), int(timestep) + 1))
    assert before <= sigma <= after
    assert before ** (1 - timestep % 1) * after ** (timestep % 1) == pytest.approx(sigma, rel=1e-9)
