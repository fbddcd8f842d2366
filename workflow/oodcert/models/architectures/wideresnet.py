"""The wide residual network (Zagoruyko and Komodakis 2016)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import relu

from oodcert.errors import InputError
from oodcert.models.architectures.resnet import he_initialised

STEM = 16  # channels of the first convolution, whatever the width


class PreactivationBlock(nn.Module):
    """Batch norm, ReLU and 3x3 convolution, twice, added to a shortcut.

    The shortcut is the input, or a 1x1 convolution of the activated input where the number of channels changes.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        )
        changes = in_channels != out_channels
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if changes else None

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, out_channels, H / stride, W / stride] of features [N, in_channels, H, W]."""
        activated = relu(self.norm(features))
        return self.residual(activated) + (features if self.shortcut is None else self.shortcut(activated))


def wideresnet(image_shape: Sequence[int], outputs: int, depth: int, widen: int) -> nn.Sequential:
    """Wide ResNet of 6n + 4 layers, without dropout.

    It has three stages of n blocks with 16, 32 and 64 times `widen` channels and strides 1, 2 and 2, then batch norm,
    global average pooling and a linear layer; He initialisation. Depth 40, widen 2 (the paper's) and CIFAR-10 make 2.2
    million parameters.

    Args:
        image_shape: (C, H, W), of any size.
        outputs: Number of logits.
        depth: 10, 16, 22, ...
        widen: Factor of the channels.

    Returns:
        The network, from images [N, C, H, W] to logits [N, outputs].

    Raises:
        InputError: The depth is another number.

    Source: Zagoruyko and Komodakis (2016), https://arxiv.org/abs/1605.07146
    """
    blocks, rest = divmod(depth - 4, 6)
    if blocks < 1 or rest:
        raise InputError(f"A wide ResNet of depth {depth} is not possible: use 6n + 4, such as 10, 16, 22, 28 or 40.")
    layers: list[nn.Module] = [nn.Conv2d(image_shape[0], STEM, 3, padding=1, bias=False)]
    channels = STEM
    for stage in range(3):
        width = 2**stage * STEM * widen
        for block in range(blocks):
            layers.append(PreactivationBlock(channels, width, 2 if stage and not block else 1))
            channels = width
    head = nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs)
    return he_initialised(nn.Sequential(*layers, *head))
