"""Every architecture, as small as it can be, with random weights; and a module of any function."""

from collections.abc import Callable

from torch import Tensor, nn

from interval_boxes import randomised
from oodcert.models.networks import build_network

SMALL_ARCHITECTURES = {
    "cnn": {"width": 4},
    "densenet": {"depth": 10, "growth": 3},
    "ibp_cnn_s": {"width": 4},
    "ibp_cnn_xl": {"width": 3},
    "resnet": {"depth": 8, "width": 3},
    "resnet18": {"width": 2},
    "wideresnet": {"depth": 10, "widen": 1},
}


def random_network(name: str, outputs: int = 3, shape: tuple[int, int, int] = (1, 8, 8)) -> nn.Module:
    """A small network of an architecture, in float64."""
    return randomised(build_network({"name": name, **SMALL_ARCHITECTURES[name]}, shape, outputs))


class FunctionModule(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, features: Tensor) -> Tensor:
        return self.function(features)
