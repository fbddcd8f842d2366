"""A small classifier for small images: three convolutions with batch norm."""

from torch import nn


def cnn(image_shape, outputs, width):
    """Sequential CNN from images [N, C, H, W] to logits [N, outputs]; H and W must be multiples of 4."""
    channels, height, side = image_shape

    def block(inside, outside, stride):
        return (
            nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
        )

    return nn.Sequential(
        *block(channels, width, 1),
        *block(width, 2 * width, 2),
        *block(2 * width, 2 * width, 1),
        nn.AvgPool2d((height // 4, side // 4)),
        nn.Flatten(),
        nn.Linear(8 * width, 4 * width),
        nn.ReLU(inplace=True),
        nn.Linear(4 * width, outputs),
    )
