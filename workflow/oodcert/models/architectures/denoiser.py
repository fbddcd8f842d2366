"""Diffusion denoisers: a small UNet of diffusers, and the denoise-once rule."""

from bisect import bisect_left
from functools import cached_property
from math import exp, log, sqrt

import torch
from torch import nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from oodcert.errors import InputError


class PatchUNet(nn.Module):
    """Predicts the noise in x_t from (x_t [N, C, H, W] in the [-1, 1] scale, timestep [N] or scalar tensor).

    channels: width per resolution; patch: side of the pixel blocks folded into channels first (1: none), which
    makes the UNet run at 1/patch of the resolution.
    """

    def __init__(self, image_shape, channels, patch):
        from diffusers.models.unets.unet_2d import UNet2DModel

        super().__init__()
        self.patch = patch
        self.unet = UNet2DModel(
            sample_size=image_shape[1] // patch,
            in_channels=image_shape[0] * patch**2,
            out_channels=image_shape[0] * patch**2,
            layers_per_block=1,
            block_out_channels=tuple(channels),
            down_block_types=("DownBlock2D",) * len(channels),
            up_block_types=("UpBlock2D",) * len(channels),
            add_attention=False,
            norm_num_groups=8,
            resnet_time_scale_shift="scale_shift",
        )

    def forward(self, noisy, timestep):
        return pixel_shuffle(self.unet(pixel_unshuffle(noisy, self.patch), timestep).sample, self.patch)


class DiffusionDenoiser(nn.Module):
    """Denoises in one step of a diffusion model (Carlini et al. 2023): denoiser(noisy, sigma) -> images in [0, 1].

    noise_model: module (x_t [N, C, H, W], timestep [N] or [1]) -> predicted noise, in the [-1, 1] scale;
    alphas_cumprod: ᾱ_t, decreasing, [T].
    """

    def __init__(self, noise_model, alphas_cumprod):
        super().__init__()
        self.noise_model = noise_model
        self.register_buffer("alphas_cumprod", alphas_cumprod.to(torch.float64), persistent=False)

    def timestep(self, sigma):
        """The timestep, interpolated between integers, whose noise-to-signal ratio is that of sigma in [0, 1] pixels.

        Noise sigma in [0, 1] is 2 sigma in [-1, 1]; log sqrt((1 - ᾱ_t) / ᾱ_t) is interpolated linearly in t.
        Raises InputError where the schedule does not reach sigma.
        """
        levels, target = self._levels, log(sigma)
        above = bisect_left(levels, target)
        if above == 0 or above == len(levels):
            low, high = exp(levels[0]), exp(levels[-1])
            raise InputError(f"The denoiser's schedule covers sigma from {low:.4g} to {high:.4g}, not {sigma}.")
        return above - 1 + (target - levels[above - 1]) / (levels[above] - levels[above - 1])

    @cached_property
    def _levels(self):
        """log sigma of every timestep, in [0, 1] pixels: once, for forward asks at every pass."""
        return (0.5 * ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()).log().tolist()

    def forward(self, noisy, sigma):
        """noisy [N, C, H, W]: images plus N(0, sigma² I) noise in the [0, 1] scale, unclipped."""
        timestep = torch.full((1,), self.timestep(sigma), device=noisy.device)
        signal = 1 / sqrt(1 + (2 * sigma) ** 2)
        scaled = signal * (2 * noisy - 1)
        clean = (scaled - sqrt(1 - signal**2) * self.noise_model(scaled, timestep)) / signal
        return (clean.clamp(-1, 1) + 1) / 2


def cosine_schedule(timesteps):
    """ᾱ_t of the cosine schedule (Nichol and Dhariwal 2021), float64 [timesteps], from diffusers."""
    from diffusers import DDPMScheduler

    with torch.device("cpu"):
        return DDPMScheduler(num_train_timesteps=timesteps, beta_schedule="squaredcos_cap_v2").alphas_cumprod.double()
