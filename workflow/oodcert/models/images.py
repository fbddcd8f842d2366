"""Images as callers give them."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from oodcert.errors import InputError

FORM = "Images must be a float tensor [N, C, H, W]"
CHANNELS = (1, 3, 4)  # of the images that files hold


def as_images(images: Any) -> Tensor:
    """Images as a tensor: a float tensor or array [N, C, H, W] in [0, 1] with N ≥ 1, or a list of images.

    Args:
        images: A tensor, a numpy array, or a list of images of one size.

    Returns:
        The tensor [N, C, H, W], of the type of the given floats; it may share their memory.

    Raises:
        InputError: They have another type, shape or range, or hold no image.
    """
    tensor = as_tensor(images, FORM)
    if tensor.ndim == 3:
        raise InputError(f"{FORM}, got one of shape {tuple(tensor.shape)}: give a single image as images[None].")
    if tensor.ndim != 4 or not tensor.is_floating_point():
        raise InputError(
            f"{FORM}, got {tensor.dtype} of shape {tuple(tensor.shape)}. Divide uint8 images by 255 and put channels "
            "first."
        )
    if tensor.numel() == 0:
        raise InputError("The set of images is empty: nothing can be scored. Check the file or the selection.")
    _, first, height, last = tensor.shape
    if first == height and last in CHANNELS and first not in CHANNELS:
        raise InputError(
            f"{FORM}, got the shape {tuple(tensor.shape)}, which has the channels last. Put them first: "
            "images.permute(0, 3, 1, 2), of a numpy array images.transpose(0, 3, 1, 2)."
        )
    low, high = tensor.min().item(), tensor.max().item()
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"Images must lie in [0, 1], these span [{low:g}, {high:g}]. Radii and noise are in that scale: "
            "rescale the images and put any normalisation inside the network."
        )
    return tensor


def as_tensor(values: Any, needed: str) -> Tensor:
    """A tensor of values of any type.

    Args:
        values: A tensor, a numpy array, or a list of numbers or of tensors of one size.
        needed: What is needed, in words; the message begins with it.

    Returns:
        The tensor; it may share memory with the values.

    Raises:
        InputError: They are none, some are masked, or the tensor is sparse or a meta tensor.
    """
    if isinstance(values, Tensor) and (values.is_meta or values.layout is not torch.strided):
        raise InputError(
            f"{needed}, got a {'meta' if values.is_meta else 'sparse'} tensor: give one that holds values."
        )
    if isinstance(values, Tensor):
        return values
    try:
        if isinstance(values, list | tuple) and values and all(isinstance(one, Tensor) for one in values):
            return torch.stack(list(values))
        if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
            raise ValueError("some values are masked")
        array = np.asarray(values)
        if array.dtype.kind == "f":  # of any byte order and width
            array = array.astype(f"=f{min(array.dtype.itemsize, 8)}", copy=False)
        return torch.from_numpy(np.ascontiguousarray(array))
    except Exception as error:  # it is anything
        raise InputError(f"{needed}, got {type(values).__name__} that is none ({error}).") from error
