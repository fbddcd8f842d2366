"""The precision of networks that are sampled: float32, or bfloat16, with networks that a GPU runs compiled.

In bfloat16 the networks run under autocast, and nothing else does. Logits leave it in float64, so scores and statistics
are of float64. The certificate is then one of the network as it is computed, rounding included.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from oodcert.errors import InputError
from oodcert.models.architectures.denoiser import DiffusionDenoiser
from oodcert.models.calls import shaped_logits
from oodcert.models.wrappers import ClassLogits, DenoisedNetwork, JointNetwork, NoisyNetwork
from oodcert.runtime.compiler import check_compiler

PRECISIONS = ("float32", "bfloat16")
WRAPPERS = (ClassLogits, DenoisedNetwork, DiffusionDenoiser, JointNetwork, NoisyNetwork)
# the default mode, without the benchmarks on the device by which kernels, hence the order of sums, would be chosen
INDUCTOR: dict[str, Any] = {"backend": "inductor", "options": {"deterministic": True}}


def check_precision(precision: str) -> None:
    """Raises InputError unless precision is "float32" or "bfloat16"."""
    if precision not in PRECISIONS:
        raise InputError(f"precision = {precision!r}: use 'float32' or 'bfloat16'.")


def marked_logits(network: nn.Module, images: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    """A network's logits, finite or not, without waiting for the device.

    Args:
        network: Images to logits.
        images: [N, C, H, W].
        precision: "float32" or "bfloat16".

    Returns:
        Logits [N, K], in float64 where the network runs in bfloat16, and whether all of a row are finite [N].

    Raises:
        InputError: The logits have another shape.
    """
    if precision == "float32":
        logits = shaped_logits(network, images)
    else:
        with torch.autocast(images.device.type, torch.bfloat16):
            logits = shaped_logits(network, images).double()
    return logits, logits.isfinite().all(1)


def prepared(networks: Iterable[nn.Module], device: torch.device | str, precision: str) -> AbstractContextManager[None]:
    """A context in which these networks are sampled: compiled where that pays, in bfloat16 on a GPU.

    Args:
        networks: The networks, wrapped or not.
        device: Where they run.
        precision: "float32" or "bfloat16".

    Returns:
        The context. It changes nothing on a CPU and in float32.

    Raises:
        InputError: The networks would be compiled, and there is no C compiler for it.
    """
    if torch.device(device).type != "cuda" or precision != "bfloat16":
        return nullcontext()
    check_compiler()
    return compiled(networks)


@contextmanager
def compiled(networks: Iterable[nn.Module], how: dict[str, Any] = INDUCTOR) -> Iterator[None]:
    """Within it the networks run compiled, for each shape anew. The modules are unchanged afterwards.

    This library's wrappers are not compiled, but the components inside them are. A component of several networks is
    compiled once. A denoiser's result can still be shared between networks: that happens in the wrappers. torch keeps
    what it compiled and uses it again in the next such context.

    Args:
        networks: The networks, wrapped or not.
        how: Arguments of torch.compile.

    Yields:
        Nothing: the networks are compiled while the context lasts.
    """
    with ExitStack() as stack:
        for component in dict.fromkeys(one for network in networks for one in _components(network)):
            stack.enter_context(_running(component, torch.compile(component.forward, dynamic=False, **how)))
        yield


def _components(network: nn.Module) -> list[nn.Module]:
    """The largest modules of a network that contain no wrapper."""
    if any(isinstance(module, WRAPPERS) for module in network.modules()):
        return [one for child in network.children() for one in _components(child)]
    return [network]


@contextmanager
def _running(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Within it, forward takes the place of the module's own."""
    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own
