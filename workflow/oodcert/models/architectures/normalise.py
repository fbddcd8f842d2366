"""The normalisation of images that a network was trained with, as its first layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """(images - mean) / std, per channel. Both are fixed and not among the weights.

    Args:
        mean: One number per channel, in the [0, 1] pixel scale.
        std: One number per channel, in the [0, 1] pixel scale.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            # on the CPU also where a network without storage, on the meta device, is being built
            tensor = torch.tensor(values, dtype=torch.float32, device="cpu")
            self.register_buffer(name, tensor.reshape(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [N, C, H, W] of images [N, C, H, W] in [0, 1]."""
        return (images - self.mean) / self.std
