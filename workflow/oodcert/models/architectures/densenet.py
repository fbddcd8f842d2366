"""The densely connected network DenseNet-BC (Huang et al. 2017)."""

import torch
from torch import nn

from oodcert.errors import InputError
from oodcert.models.architectures.resnet import he_initialised


class DenseLayer(nn.Module):
    """Appends `growth` channels to its input: a 1x1 bottleneck of 4 growth channels, then a 3x3 convolution, each
    after batch norm and ReLU."""

    def __init__(self, inside, growth):
        super().__init__()
        self.new = nn.Sequential(*activated(inside, 4 * growth, 1), *activated(4 * growth, growth, 3))

    def forward(self, features):
        return torch.cat([features, self.new(features)], 1)


def densenet(image_shape, outputs, depth, growth):
    """DenseNet-BC of 6n + 4 layers, from images [N, C, H, W] of at least 4x4 pixels to logits [N, outputs].

    Three blocks of n dense layers; between them a 1x1 convolution halves the channels (reduction 0.5, rounded down)
    and average pooling the resolution; batch norm, global average pooling and a linear layer; He initialisation. Depth
    100, growth 12 (the paper's) and CIFAR-10 make 0.77 million parameters.
    Raises InputError unless depth is 10, 16, 22, ...
    """
    layers_each, rest = divmod(depth - 4, 6)
    if layers_each < 1 or rest:
        raise InputError(f"A DenseNet-BC of depth {depth} is not possible: use 6n + 4, such as 10, 22, 40 or 100.")
    channels = 2 * growth
    layers = [nn.Conv2d(image_shape[0], channels, 3, padding=1, bias=False)]
    for block in range(3):
        if block:
            layers += [*activated(channels, channels // 2, 1), nn.AvgPool2d(2)]
            channels //= 2
        for _ in range(layers_each):
            layers.append(DenseLayer(channels, growth))
            channels += growth
    head = nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs)
    return he_initialised(nn.Sequential(*layers, *head))


def activated(inside, outside, size):
    """Batch norm, ReLU and a convolution that keeps the resolution."""
    return nn.BatchNorm2d(inside), nn.ReLU(), nn.Conv2d(inside, outside, size, padding=size // 2, bias=False)
