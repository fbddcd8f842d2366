"""Diffusion denoisers: the denoise-once rule, and the cosine schedule of noise."""

from bisect import bisect_left
from functools import cached_property
from math import cos, exp, log, pi, sqrt

import torch
from torch import Tensor, nn

from oodcert.errors import InputError

OFFSET = 0.008  # of the cosine schedule, so that the first steps add noise that can be seen
LARGEST_BETA = 0.999  # share of the signal that a step may remove


class DiffusionDenoiser(nn.Module):
    """Denoises in one step of a diffusion model: denoiser(noisy, sigma) -> images in [0, 1].

    Args:
        noise_model: Module (x_t [N, C, H, W], timestep [N] or [1]) -> predicted noise [N, C, H, W], in the [-1, 1]
            scale.
        alphas_cumprod: ᾱ_t [T], decreasing, in (0, 1).

    Source: Carlini et al. (2023), https://arxiv.org/abs/2206.10550
    """

    alphas_cumprod: Tensor

    def __init__(self, noise_model: nn.Module, alphas_cumprod: Tensor) -> None:
        super().__init__()
        self.noise_model = noise_model
        self.register_buffer("alphas_cumprod", alphas_cumprod.to(torch.float64), persistent=False)

    def timestep(self, sigma: float) -> float:
        """The timestep, interpolated between integers, whose noise-to-signal ratio is that of sigma.

        Noise of sigma in the [0, 1] scale is 2 sigma in [-1, 1]; log sqrt((1 - ᾱ_t) / ᾱ_t) is interpolated linearly
        in t.

        Args:
            sigma: Standard deviation of the noise, in the [0, 1] pixel scale.

        Returns:
            The timestep in [0, T - 1].

        Raises:
            InputError: The schedule does not reach sigma.
        """
        levels, target = self._levels, log(sigma)
        above = bisect_left(levels, target)
        if above == 0 or above == len(levels):
            low, high = exp(levels[0]), exp(levels[-1])
            raise InputError(f"The denoiser's schedule covers sigma from {low:.4g} to {high:.4g}, not {sigma}.")
        return above - 1 + (target - levels[above - 1]) / (levels[above] - levels[above - 1])

    @cached_property
    def _levels(self) -> list[float]:
        """log sigma of every timestep, in the [0, 1] pixel scale: computed once, for forward needs it at every pass."""
        return (0.5 * ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()).log().tolist()

    def forward(self, noisy: Tensor, sigma: float) -> Tensor:
        """The denoised images.

        Args:
            noisy: Images plus N(0, sigma² I) noise [N, C, H, W], in the [0, 1] scale and unclipped.
            sigma: Standard deviation of the noise, in the [0, 1] pixel scale.

        Returns:
            Images [N, C, H, W] in [0, 1].

        Raises:
            InputError: The schedule does not reach sigma.
        """
        timestep = torch.full((1,), self.timestep(sigma), dtype=torch.float32, device=noisy.device)
        signal = 1 / sqrt(1 + (2 * sigma) ** 2)
        scaled = signal * (2 * noisy - 1)
        clean = (scaled - sqrt(1 - signal**2) * self.noise_model(scaled, timestep)) / signal
        return (clean.clamp(-1, 1) + 1) / 2


def cosine_schedule(timesteps: int) -> Tensor:
    """ᾱ_t of the cosine schedule, the product of 1 - β over the steps up to t, computed in float32.

    Args:
        timesteps: Number of timesteps, T.

    Returns:
        float64 [T] on the CPU, decreasing.

    Source: Nichol and Dhariwal (2021), equation 17, https://arxiv.org/abs/2102.09672
    """

    def signal(share: float) -> float:
        return cos((share + OFFSET) / (1 + OFFSET) * pi / 2) ** 2

    betas = [
        min(1 - signal((step + 1) / timesteps) / signal(step / timesteps), LARGEST_BETA) for step in range(timesteps)
    ]
    return (1 - torch.tensor(betas, dtype=torch.float32, device="cpu")).cumprod(0).double()
