"""A small classifier for small images: three convolutions with batch norm."""

from collections.abc import Sequence

from torch import nn


def cnn(image_shape: Sequence[int], outputs: int, width: int) -> nn.Sequential:
    """Three convolutions with batch norm, average pooling over the whole image, and two linear layers.

    Args:
        image_shape: (C, H, W); H and W must be multiples of 4.
        outputs: Number of logits.
        width: Channels of the first convolution; the other two have twice as many.

    Returns:
        The network, from images [N, C, H, W] to logits [N, outputs].
    """
    channels, height, side = image_shape
    return nn.Sequential(
        *_convolution(channels, width, 1),
        *_convolution(width, 2 * width, 2),
        *_convolution(2 * width, 2 * width, 1),
        nn.AvgPool2d((height // 4, side // 4)),
        nn.Flatten(),
        nn.Linear(8 * width, 4 * width),
        nn.ReLU(inplace=True),
        nn.Linear(4 * width, outputs),
    )


def _convolution(in_channels: int, out_channels: int, stride: int) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.ReLU]:
    return (
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
