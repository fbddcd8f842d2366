"""The memory layout of networks that a CPU evaluates."""

from math import prod

import torch

LARGE = 32 * 32  # pixels of an image from which convolutions gain by channels_last on a CPU
KNOWN = ("torch", "oodcert")  # packages whose layers work in any layout


def laid_out(network, image_shape):
    """The network, changed in place: for images [C, H, W] of 32 x 32 pixels or more its convolutions are channels_last.

    It computes the same function but for float rounding. A network with layers of other packages stays as it is: some
    work in one layout alone, and the UNet of diffusers is slower so (benchmarks/choices.py).
    """
    known = all(type(module).__module__.split(".")[0] in KNOWN for module in network.modules())
    if known and prod(image_shape[1:]) >= LARGE:
        network.to(memory_format=torch.channels_last)
    return network
