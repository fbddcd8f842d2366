"""The densely connected network DenseNet-BC (Huang et al. 2017)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from oodcert.errors import InputError
from oodcert.models.architectures.resnet import he_initialised


class DenseLayer(nn.Module):
    """Appends `growth` channels to its input: a 1x1 bottleneck of 4 growth channels, then a 3x3 convolution, each
    after batch norm and ReLU."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.new = nn.Sequential(*activated(in_channels, 4 * growth, 1), *activated(4 * growth, growth, 3))

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, in_channels + growth, H, W] of features [N, in_channels, H, W]."""
        return torch.cat([features, self.new(features)], 1)


def densenet(image_shape: Sequence[int], outputs: int, depth: int, growth: int) -> nn.Sequential:
    """DenseNet-BC of 6n + 4 layers.

    It has three blocks of n dense layers. Between them a 1x1 convolution halves the channels (reduction 0.5, rounded
    down) and average pooling the resolution. Batch norm, global average pooling and a linear layer follow; He
    initialisation. Depth 100, growth 12 (the paper's) and CIFAR-10 make 0.77 million parameters.

    Args:
        image_shape: (C, H, W), of at least 4x4 pixels.
        outputs: Number of logits.
        depth: 10, 16, 22, ...
        growth: Channels that each dense layer adds.

    Returns:
        The network, from images [N, C, H, W] to logits [N, outputs].

    Raises:
        InputError: The depth is another number.

    Source: Huang et al. (2017), https://arxiv.org/abs/1608.06993
    """
    layers_each, rest = divmod(depth - 4, 6)
    if layers_each < 1 or rest:
        raise InputError(f"A DenseNet-BC of depth {depth} is not possible: use 6n + 4, such as 10, 22, 40 or 100.")
    channels = 2 * growth
    layers: list[nn.Module] = [nn.Conv2d(image_shape[0], channels, 3, padding=1, bias=False)]
    for block in range(3):
        if block:
            layers += [*activated(channels, channels // 2, 1), nn.AvgPool2d(2)]
            channels //= 2
        for _ in range(layers_each):
            layers.append(DenseLayer(channels, growth))
            channels += growth
    head = nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs)
    return he_initialised(nn.Sequential(*layers, *head))


def activated(in_channels: int, out_channels: int, size: int) -> tuple[nn.BatchNorm2d, nn.ReLU, nn.Conv2d]:
    """Batch norm, ReLU and a convolution that keeps the resolution.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        size: Side of the convolution's kernel, in pixels; odd.

    Returns:
        The three layers in order.
    """
    convolution = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False)
    return nn.BatchNorm2d(in_channels), nn.ReLU(), convolution
