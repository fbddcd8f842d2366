"""A small network, images and a denoiser to smooth, the draws of them, and a rule that stops sampling early."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oodcert.certification.monte_carlo import sample
from oodcert.models.networks import build_network

IMAGES = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))
SAMPLING: dict[str, Any] = {"sigma": 0.25, "looks": [100], "seed": 0, "batch_size": 32}


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return build_network({"name": "cnn", "width": 4}, (1, 8, 8), 3).eval()


def draws_of(
    images: Tensor = IMAGES,
    ids: Iterable[int] = range(7),
    evaluate: Callable[[Tensor], Tensor] | None = None,
    **changes: Any,
) -> list[np.ndarray]:
    """The draws of every image, by default of the small network."""
    drawn = dict(sample(evaluate or small_network(), images, list(ids), "set", **{**SAMPLING, **changes}))
    return [drawn[position] for position in range(len(images))]


class StopAtLook:
    """Finishes each image at a look of its own, and records every look: (position, number of draws)."""

    def __init__(self, last: Sequence[int]) -> None:
        self.last, self.seen = last, list[tuple[int, int]]()

    def start_batch(self, positions: set[int]) -> None:
        pass

    def is_finished(self, position: int, draws: np.ndarray) -> bool:
        self.seen.append((position, len(draws)))
        return len(draws) == self.last[position]


class CountingDenoiser(nn.Module):
    """A denoiser that counts the images it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.images = 0

    def forward(self, noisy: Tensor, sigma: float) -> Tensor:
        self.images += len(noisy)
        return (noisy / (1 + sigma)).clamp(0, 1)
