"""Residual networks for CIFAR (He et al. 2016)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import relu

from oodcert.errors import InputError


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to a shortcut.

    The shortcut is the identity, or a 1x1 convolution with batch norm ("option B" of He et al.) where the number of
    channels or the resolution changes.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *convolution(in_channels, out_channels, 3, stride),
            nn.ReLU(inplace=True),
            *convolution(out_channels, out_channels, 3, 1),
        )
        changes = stride != 1 or in_channels != out_channels
        self.shortcut = nn.Sequential(*convolution(in_channels, out_channels, 1, stride)) if changes else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, out_channels, H / stride, W / stride] of features [N, in_channels, H, W]."""
        return relu(self.shortcut(features) + self.residual(features), inplace=True)


def resnet(image_shape: Sequence[int], outputs: int, depth: int, width: int) -> nn.Sequential:
    """ResNet of 6n + 2 layers.

    It has three stages of n basic blocks with width, 2 width and 4 width channels and strides 1, 2 and 2, then global
    average pooling and a linear layer; He initialisation. Depth 20, width 16 and CIFAR-10 make 0.27 million parameters.

    Args:
        image_shape: (C, H, W), of any size.
        outputs: Number of logits.
        depth: 8, 14, 20, ...
        width: Channels of the first stage.

    Returns:
        The network, from images [N, C, H, W] to logits [N, outputs].

    Raises:
        InputError: The depth is another number.

    Source: He et al. (2016), section 4.2, https://arxiv.org/abs/1512.03385
    """
    blocks, rest = divmod(depth - 2, 6)
    if blocks < 1 or rest:
        raise InputError(f"A ResNet of depth {depth} is not possible: use 6n + 2, such as 8, 14, 20, 32, 44 or 56.")
    return _stages(image_shape[0], outputs, width, stages=3, blocks=blocks)


def patch_resnet(image_shape: Sequence[int], outputs: int, depth: int, width: int) -> nn.Sequential:
    """`resnet` on blocks of 2x2 pixels folded into channels.

    It works at half the resolution, where a layer of twice the width costs the same: a CPU can train it in minutes.

    Args:
        image_shape: (C, H, W); H and W must be even.
        outputs: Number of logits.
        depth: 8, 14, 20, ...
        width: Channels of the first stage.

    Returns:
        The network, from images [N, C, H, W] to logits [N, outputs].

    Raises:
        InputError: The depth is another number.
    """
    channels, height, side = image_shape
    return nn.Sequential(nn.PixelUnshuffle(2), *resnet((4 * channels, height // 2, side // 2), outputs, depth, width))


def resnet18(image_shape: Sequence[int], outputs: int, width: int) -> nn.Sequential:
    """ResNet-18 with a stem for CIFAR.

    As `resnet`, it begins with a 3x3 convolution without max-pooling. It has four stages of two basic blocks with
    width, 2, 4 and 8 width channels. Width 64 (the paper's) and CIFAR-10 make 11.2 million parameters.

    Args:
        image_shape: (C, H, W), of any size.
        outputs: Number of logits.
        width: Channels of the first stage.

    Returns:
        The network, from images [N, C, H, W] to logits [N, outputs].

    Source: He et al. (2016), https://arxiv.org/abs/1512.03385
    """
    return _stages(image_shape[0], outputs, width, stages=4, blocks=2)


def _stages(channels: int, outputs: int, width: int, stages: int, blocks: int) -> nn.Sequential:
    layers: list[nn.Module] = [*convolution(channels, width, 3, 1), nn.ReLU(inplace=True)]
    channels = width
    for stage in range(stages):
        for block in range(blocks):
            layers.append(BasicBlock(channels, 2**stage * width, 2 if stage and not block else 1))
            channels = 2**stage * width
    return he_initialised(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs)))


def convolution(in_channels: int, out_channels: int, size: int, stride: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A convolution that keeps the resolution up to its stride, and batch norm.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        size: Side of the kernel, in pixels; odd.
        stride: Step of the kernel, in pixels.

    Returns:
        The two layers in order.
    """
    layer = nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False)
    return layer, nn.BatchNorm2d(out_channels)


def he_initialised(network: nn.Sequential) -> nn.Sequential:
    """The network with fresh weights of its convolutions, normal and scaled to the fan-out.

    Args:
        network: Any network; it is changed in place.

    Returns:
        The same network.

    Source: He et al. (2015), https://arxiv.org/abs/1502.01852
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
