"""Checks of what a network is given and of what it returns."""

import torch

from oodcert.errors import InputError


def check_images(images):
    """Raises InputError unless images is a float tensor [N, C, H, W] in [0, 1] with N ≥ 1."""
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


def checked_logits(network, images):
    """The network's logits [N, K]; raises InputError where they have another shape or are not finite."""
    logits = shaped_logits(network, images)
    refuse_rows(network, ~torch.isfinite(logits).all(1))
    return logits


def shaped_logits(network, images):
    """The network's logits [N, K], finite or not; raises InputError where they have another shape."""
    logits = network(images)
    if logits.ndim != 2 or logits.shape[0] != images.shape[0]:
        raise InputError(
            f"{type(network).__name__} gave {tuple(logits.shape)} for {images.shape[0]} images: logits [N, K] needed."
        )
    return logits


def refuse_rows(network, bad):
    """Raises InputError if the logits of any row are bad [N], that is not finite."""
    if bad.any():
        raise InputError(
            f"{type(network).__name__} gave NaN or infinite logits for {bad.sum()} of {len(bad)} images. "
            "Check its weights and its input normalisation; no score is defined for such logits."
        )


def hooked(module):
    """Whether functions of others run before or after the module's own."""
    return bool(module._forward_hooks or module._forward_pre_hooks)
