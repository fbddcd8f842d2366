"""The form in which trained networks are evaluated: batch norms folded into convolutions, and the memory format."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from oodcert.models.architectures.patch_unet import PatchUNet
from oodcert.models.checks import hooked

CHANNELS_LAST_PIXELS = 32 * 32  # from this many pixels of an image on, channels_last makes convolutions faster on a CPU
KNOWN_PACKAGES = ("torch", "oodcert")  # their layers work in any memory format


def folded(network: nn.Module) -> nn.Module:
    """The network with each batch norm that follows a convolution in an nn.Sequential folded into its weights.

    The network computes the same function, but for float rounding, and faster. Two kinds of layers stay as they are:
    layers with hooks, which may change what is computed, and batch norms that use the statistics of the batch. Do not
    train the network afterwards.

    Args:
        network: Any nn.Module in evaluation mode; it is changed in place.

    Returns:
        The same object.
    """
    for module in network.modules():
        if type(module) is not nn.Sequential:
            continue
        for index, (layer, norm) in enumerate(pairwise(list(module))):
            if type(layer) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d or norm.running_mean is None:
                continue
            if not (hooked(layer) or hooked(norm)):
                module[index], module[index + 1] = fuse_conv_bn_eval(layer, norm), nn.Identity()
    return network


def laid_out(network: nn.Module, image_shape: Sequence[int]) -> nn.Module:
    """The network with its convolutions in the memory format that is faster on a CPU.

    That is channels_last for images of 32 x 32 pixels or more. The network computes the same function, but for float
    rounding. A network with layers of other packages stays as it is, for some of them work in one format alone. So does
    a network with the small UNet, which channels_last makes slower (benchmarks/choices.py).

    Args:
        network: Any nn.Module; it is changed in place.
        image_shape: (C, H, W).

    Returns:
        The same object.
    """
    modules = list(network.modules())
    known = all(type(module).__module__.split(".")[0] in KNOWN_PACKAGES for module in modules)
    faster = known and not any(isinstance(module, PatchUNet) for module in modules)
    if faster and prod(image_shape[1:]) >= CHANNELS_LAST_PIXELS:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub leaves this form out
    return network
