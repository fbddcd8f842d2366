"""Checks of what a network is given and of what it returns."""

import torch
from torch import Tensor, nn

from oodcert.errors import InputError


def check_images(images: Tensor) -> None:
    """Checks that images are a float tensor [N, C, H, W] in [0, 1] with N ≥ 1.

    Args:
        images: The tensor to check.

    Raises:
        InputError: The tensor has another type, shape or range, or holds no image.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise InputError(
            f"Images must be a float tensor [N, C, H, W], got {images.dtype} of shape {tuple(images.shape)}. "
            "Divide uint8 images by 255 and put channels first."
        )
    if images.shape[0] == 0:
        raise InputError("The set of images is empty: nothing can be scored. Check the file or the selection.")
    low, high = images.min().item(), images.max().item()
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"Images must lie in [0, 1], these span [{low:g}, {high:g}]. Radii and noise are in that scale: "
            "rescale the images and put any normalisation inside the network."
        )


def checked_logits(network: nn.Module, images: Tensor) -> Tensor:
    """The network's logits, which must be finite.

    Args:
        network: Maps images [N, C, H, W] to logits [N, K].
        images: Float tensor [N, C, H, W].

    Returns:
        Logits [N, K].

    Raises:
        InputError: The logits have another shape or are not finite.
    """
    logits = shaped_logits(network, images)
    refuse_rows(network, ~torch.isfinite(logits).all(1))
    return logits


def shaped_logits(network: nn.Module, images: Tensor) -> Tensor:
    """The network's logits, finite or not.

    Args:
        network: Maps images [N, C, H, W] to logits [N, K].
        images: Float tensor [N, C, H, W].

    Returns:
        Logits [N, K].

    Raises:
        InputError: The logits have another shape.
    """
    logits = network(images)
    if logits.ndim != 2 or logits.shape[0] != images.shape[0]:
        raise InputError(
            f"{type(network).__name__} gave {tuple(logits.shape)} for {images.shape[0]} images: logits [N, K] needed."
        )
    return logits


def refuse_rows(network: nn.Module, bad: Tensor) -> None:
    """Refuses logits of which some rows are not finite.

    Args:
        network: The network that gave the logits; the message names its class.
        bad: Boolean [N], true where a row of the logits is not finite.

    Raises:
        InputError: A row is bad.
    """
    if bad.any():
        raise InputError(
            f"{type(network).__name__} gave NaN or infinite logits for {bad.sum()} of {len(bad)} images. "
            "Check its weights and its input normalisation; no score is defined for such logits."
        )


def hooked(module: nn.Module) -> bool:
    """Whether a forward hook or a forward pre-hook is registered on the module: it may change what is computed."""
    return bool(module._forward_hooks or module._forward_pre_hooks)
