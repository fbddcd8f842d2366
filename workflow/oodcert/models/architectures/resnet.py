"""Residual networks for CIFAR (He et al. 2016)."""

from torch import nn
from torch.nn.functional import relu

from oodcert.errors import InputError


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to a shortcut: the identity, or a 1x1 convolution with batch norm
    ("option B" of He et al.) where the number of channels or the resolution changes."""

    def __init__(self, inside, outside, stride):
        super().__init__()
        self.residual = nn.Sequential(
            *convolution(inside, outside, 3, stride), nn.ReLU(inplace=True), *convolution(outside, outside, 3, 1)
        )
        changes = stride != 1 or inside != outside
        self.shortcut = nn.Sequential(*convolution(inside, outside, 1, stride)) if changes else nn.Identity()

    def forward(self, features):
        return relu(self.shortcut(features) + self.residual(features), inplace=True)


def resnet(image_shape, outputs, depth, width):
    """ResNet of the given depth, 6n + 2 layers, from images [N, C, H, W] of any size to logits [N, outputs].

    Three stages of n basic blocks with width, 2 width and 4 width channels and strides 1, 2 and 2, global average
    pooling and a linear layer; He initialisation. Depth 20, width 16 and CIFAR-10 make 0.27 million parameters.
    Raises InputError unless depth is 8, 14, 20, ...
    """
    blocks, rest = divmod(depth - 2, 6)
    if blocks < 1 or rest:
        raise InputError(f"A ResNet of depth {depth} is not possible: use 6n + 2, such as 8, 14, 20, 32, 44 or 56.")
    return _stages(image_shape[0], outputs, width, stages=3, blocks=blocks)


def patch_resnet(image_shape, outputs, depth, width):
    """The same ResNet on blocks of 2x2 pixels folded into channels: H and W must be even.

    It works at half the resolution, where a layer of twice the width costs the same: what a CPU can train in minutes.
    """
    return nn.Sequential(nn.PixelUnshuffle(2), *resnet((4 * image_shape[0], None, None), outputs, depth, width))


def resnet18(image_shape, outputs, width):
    """ResNet-18 with a stem for CIFAR, from images [N, C, H, W] of any size to logits [N, outputs].

    As resnet, a 3x3 convolution without max-pooling first, but four stages of two basic blocks with width, 2, 4 and 8
    width channels. Width 64 (the paper's) and CIFAR-10 make 11.2 million parameters.
    """
    return _stages(image_shape[0], outputs, width, stages=4, blocks=2)


def _stages(channels, outputs, width, stages, blocks):
    layers, channels = [*convolution(channels, width, 3, 1), nn.ReLU(inplace=True)], width
    for stage in range(stages):
        for block in range(blocks):
            layers.append(BasicBlock(channels, 2**stage * width, 2 if stage and not block else 1))
            channels = 2**stage * width
    return he_initialised(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs)))


def convolution(inside, outside, size, stride):
    """A convolution that keeps the resolution up to its stride, and batch norm."""
    return nn.Conv2d(inside, outside, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(outside)


def he_initialised(network):
    """The network with fresh weights of its convolutions (He et al. 2015, scaled to the fan-out)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
