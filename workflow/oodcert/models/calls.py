"""How networks that others have made are called: mode, type of numbers, errors in words, without gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from oodcert.errors import InputError
from oodcert.models.outputs import check_logits, logits_of
from oodcert.runtime.memory import is_out_of_memory


def require_network(network: Any) -> nn.Module:
    """The network, if it is one.

    Args:
        network: What is meant to be a network.

    Returns:
        The same object.

    Raises:
        InputError: It is no nn.Module.
    """
    if isinstance(network, nn.Module):
        return network
    require_callable("A network", network)
    raise InputError(
        f"A network must be a torch.nn.Module, got {type(network).__name__}. Put a function into the forward of one."
    )


def require_callable(role: str, network: Any) -> None:
    """Checks that something can be called as a network is.

    Args:
        role: What it is for; the message begins with it.
        network: A module or a function.

    Raises:
        InputError: It is a class, a program of torch.export, or can't be called.
    """
    if isinstance(network, type):
        raise InputError(f"{network.__name__} is a class: give an instance of it, {network.__name__}(...).")
    if isinstance(network, torch.export.ExportedProgram):
        raise InputError("An exported program is no network itself: give program.module().")
    if not callable(network):
        raise InputError(f"{role} must be a torch.nn.Module, got {type(network).__name__}.")


def put_in_evaluation(network: nn.Module) -> None:
    """Puts a network in evaluation mode. Programs of torch.export keep the mode in which they were exported.

    Args:
        network: Changed in place.

    Raises:
        InputError: A program was exported in training mode, with dropout in it.
    """
    try:
        network.eval()
    except NotImplementedError:  # programs of torch.export refuse eval(), here or in a child
        _refuse_training_program(network)
        network.training = False
        for child in network.children():
            put_in_evaluation(child)


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """A context in which a network is in evaluation mode; afterwards each module has the mode that it had.

    Args:
        network: Any network.

    Yields:
        Nothing.
    """
    training = [module for module in network.modules() if getattr(module, "training", False)]
    put_in_evaluation(network)
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def without_gradients() -> Iterator[None]:
    """A context without gradients, in which networks may make tensors that gradients need later.

    torch.inference_mode is no such context: what a network keeps of its first pass could not be differentiated.

    Yields:
        Nothing.
    """
    with torch.inference_mode(False), torch.no_grad():
        yield


def fitted(network: Any, images: Tensor) -> Tensor:
    """The images in the floating-point type of the network's weights and on their device.

    Wrappers of this library get them as they are, for they do the same for each network in them.

    Args:
        network: A module or a function.
        images: Float tensor.

    Returns:
        The images, the same object where nothing changes.
    """
    if not isinstance(network, nn.Module) or getattr(network, "fits_images", False):
        return images
    weight = next((one for one in network.parameters() if one.is_floating_point()), images)
    alike = images.dtype == weight.dtype and images.device == weight.device
    return images if alike else images.to(weight.device, weight.dtype)


def run(network: Any, images: Tensor) -> Tensor:
    """What a network makes of images: its logits, of any shape.

    Args:
        network: A module or a function.
        images: Float tensor [N, C, H, W].

    Returns:
        The logits among what it returns (see oodcert.models.outputs.logits_of).

    Raises:
        InputError: There are none.
    """
    return logits_of(network(fitted(network, images)), type(network).__name__)


def shaped_logits(network: nn.Module, images: Tensor) -> Tensor:
    """The network's logits, finite or not.

    Args:
        network: Maps images [N, C, H, W] to logits [N, K].
        images: Float tensor [N, C, H, W].

    Returns:
        Logits [N, K].

    Raises:
        InputError: The network fails, or the logits have another shape or type.
    """
    name = type(network).__name__
    try:
        logits = run(network, images)
    except InputError:
        raise
    except Exception as error:  # it is any code
        if is_out_of_memory(error):
            raise
        raise InputError(failure(name, images, error)) from error
    check_logits(logits, len(images), name)
    return logits


def failure(name: str, images: Tensor, error: Exception) -> str:
    """What is said where a network fails."""
    first = next(iter(str(error).strip().splitlines()), "")
    return (
        f"{name} fails on {images.dtype} images of shape {tuple(images.shape)}: {type(error).__name__} {first}. Check "
        "their channels and size, and that it takes any number of images: a program of torch.export needs a dynamic "
        "batch dimension."
    )


def _refuse_training_program(network: nn.Module) -> None:
    for node in getattr(getattr(network, "graph", None), "nodes", ()):
        if "dropout" in str(node.target) and True in node.args:
            raise InputError(
                f"{type(network).__name__} was exported in training mode, with dropout: call .eval() before "
                "torch.export.export."
            )
