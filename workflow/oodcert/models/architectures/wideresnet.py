"""The wide residual network (Zagoruyko and Komodakis 2016)."""

from torch import nn
from torch.nn.functional import relu

from oodcert.errors import InputError
from oodcert.models.architectures.resnet import he_initialised

STEM = 16  # channels of the first convolution, whatever the width


class PreactivationBlock(nn.Module):
    """Batch norm, ReLU and 3x3 convolution, twice, added to a shortcut: the input, or a 1x1 convolution of the
    activated input where the number of channels changes."""

    def __init__(self, inside, outside, stride):
        super().__init__()
        self.norm = nn.BatchNorm2d(inside)
        self.residual = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, padding=1, bias=False),
        )
        self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False) if inside != outside else None

    def forward(self, features):
        activated = relu(self.norm(features))
        return self.residual(activated) + (features if self.shortcut is None else self.shortcut(activated))


def wideresnet(image_shape, outputs, depth, widen):
    """Wide ResNet without dropout, of 6n + 4 layers, from images [N, C, H, W] of any size to logits [N, outputs].

    Three stages of n blocks with 16, 32 and 64 times `widen` channels and strides 1, 2 and 2, batch norm, global
    average pooling and a linear layer; He initialisation. Depth 40, widen 2 (the paper's) and CIFAR-10 make 2.2 million
    parameters. Raises InputError unless depth is 10, 16, 22, ...
    """
    blocks, rest = divmod(depth - 4, 6)
    if blocks < 1 or rest:
        raise InputError(f"A wide ResNet of depth {depth} is not possible: use 6n + 4, such as 10, 16, 22, 28 or 40.")
    layers, channels = [nn.Conv2d(image_shape[0], STEM, 3, padding=1, bias=False)], STEM
    for stage in range(3):
        width = 2**stage * STEM * widen
        for block in range(blocks):
            layers.append(PreactivationBlock(channels, width, 2 if stage and not block else 1))
            channels = width
    head = nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs)
    return he_initialised(nn.Sequential(*layers, *head))
