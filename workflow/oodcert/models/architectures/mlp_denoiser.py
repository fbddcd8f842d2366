"""A noise model for images so small that convolutions have nothing to gain: a residual network of linear layers."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn
from torch.nn.functional import silu

from oodcert.models.architectures.timesteps import Sinusoids

BLOCKS = 2
FREQUENCIES = 64  # of the sinusoidal embedding of the timestep


class ResidualMLP(nn.Module):
    """Predicts the noise in x_t from x_t and the timestep.

    Each block adds a linear map of its activated input, shifted by what it learns of the timestep.

    Args:
        image_shape: (C, H, W).
        width: Width of the hidden layers.
    """

    def __init__(self, image_shape: Sequence[int], width: int) -> None:
        super().__init__()
        pixels = prod(image_shape)
        self.image_shape = tuple(image_shape)
        self.embedding = nn.Sequential(
            Sinusoids(FREQUENCIES),
            nn.Linear(FREQUENCIES, width),
            nn.SiLU(),
            nn.Linear(width, BLOCKS * width),
        )
        self.first = nn.Linear(pixels, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(BLOCKS))
        self.last = nn.Linear(width, pixels)

    def forward(self, noisy: Tensor, timestep: Tensor) -> Tensor:
        """The predicted noise.

        Args:
            noisy: x_t [N, C, H, W] in the [-1, 1] scale.
            timestep: [N] or [1]; it may be fractional.

        Returns:
            The noise [N, C, H, W].
        """
        hidden = self.first(noisy.flatten(1))
        for block, shift in zip(self.blocks, self.embedding(timestep).chunk(BLOCKS, 1), strict=True):
            hidden = hidden + block(silu(hidden + shift))
        return self.last(silu(hidden)).unflatten(1, self.image_shape)
