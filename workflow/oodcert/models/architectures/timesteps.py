"""How diffusion models see the timestep: by sinusoids of many frequencies."""

from math import log

import torch
from torch import Tensor, nn

SLOWEST = 10_000  # the frequencies go from 1 to almost 1 / SLOWEST


def sinusoids(timestep: Tensor, width: int) -> Tensor:
    """Cosines, then sines, of the timestep at geometrically falling frequencies.

    Args:
        timestep: Floating point [N].
        width: How many numbers stand for a timestep; even.

    Returns:
        [N, width] in [-1, 1], of the timestep's dtype.

    Source: Ho et al. (2020), https://arxiv.org/abs/2006.11239
    """
    half = width // 2
    frequencies = torch.exp(-log(SLOWEST) * torch.arange(half, device=timestep.device).to(timestep) / half)
    angles = timestep[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)


class Sinusoids(nn.Module):
    """`sinusoids` in float32 as a layer without weights: timesteps [N] of any dtype to [N, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, timestep: Tensor) -> Tensor:
        """The sinusoids, float32 [N, width]."""
        return sinusoids(timestep.float(), self.width)
