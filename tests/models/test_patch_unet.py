"""The small UNet and the noise schedule compute what those of diffusers 0.42.1 do: saved weights depend on it."""

import pytest
import torch

from oodcert.models.architectures.denoiser import cosine_schedule
from oodcert.models.architectures.patch_unet import PatchUNet, SmallUNet


@pytest.fixture
def unet():
    torch.manual_seed(0)
    return PatchUNet((3, 8, 8), [16, 32], 2).eval()


def test_the_same_seed_gives_the_weights_and_the_output_of_diffusers(unet):
    noisy = torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 8, 8)
    with torch.inference_mode():
        noise = unet(noisy, torch.tensor([3.5, 700.0]))
    expected = [[0.17657231, -0.09577504, 0.73050255], [-0.12213931, -0.26737142, -0.49341738]]
    torch.testing.assert_close(noise[:, 1, 4, :3], torch.tensor(expected), rtol=1e-4, atol=1e-5)
    assert noise.mean().item() == pytest.approx(-0.0143606, abs=1e-5)
    assert noise.std().item() == pytest.approx(0.3063886, abs=1e-5)


def test_the_tensors_have_the_names_of_diffusers(unet):
    names = list(unet.state_dict())
    assert len(names) == 104 and sum(tensor.numel() for tensor in unet.parameters()) == 176_396
    assert names[:3] == ["unet.conv_in.weight", "unet.conv_in.bias", "unet.time_embedding.linear_1.weight"]
    assert {
        "unet.down_blocks.0.downsamplers.0.conv.weight",
        "unet.down_blocks.1.resnets.0.conv_shortcut.bias",
        "unet.mid_block.resnets.1.time_emb_proj.weight",
        "unet.up_blocks.0.upsamplers.0.conv.bias",
        "unet.up_blocks.1.resnets.1.norm2.weight",
        "unet.conv_norm_out.weight",
        "unet.conv_out.bias",
    } <= set(names)


@pytest.mark.parametrize("channels", [[8], [8, 16], [16, 8, 24]])
@pytest.mark.parametrize("patch", [1, 2])
def test_any_widths_and_patches_keep_the_shape_and_use_every_weight(channels, patch):
    unet, noisy = PatchUNet((1, 16, 16), channels, patch), torch.randn(2, 1, 16, 16)
    noise = unet(noisy, torch.tensor([1, 30]))
    assert noise.shape == noisy.shape
    noise.square().sum().backward()
    assert all(tensor.grad.abs().sum() > 0 for tensor in unet.parameters())


def test_one_timestep_stands_for_all_images():
    unet, noisy = SmallUNet(2, [8, 16]).eval(), torch.randn(3, 2, 8, 8)
    expected = unet(noisy, torch.tensor([12.5, 12.5, 12.5]))
    for timestep in (torch.tensor([12.5]), torch.tensor(12.5)):
        assert torch.equal(unet(noisy, timestep), expected)
    assert not torch.allclose(unet(noisy, torch.tensor([40.0])), expected, atol=1e-3)


def test_the_cosine_schedule_is_that_of_diffusers():
    alphas = cosine_schedule(1000)
    expected = [
        0.9999586939811707,
        0.9715756177902222,
        0.4922850430011749,
        0.023616107180714607,
        2.4287349909002387e-09,
    ]
    assert alphas.dtype == torch.float64 and (alphas.diff() < 0).all()
    torch.testing.assert_close(alphas[[0, 100, 500, 900, 999]], torch.tensor(expected).double(), rtol=1e-5, atol=0)
