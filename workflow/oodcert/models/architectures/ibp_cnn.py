"""Networks that interval bound propagation can bound tightly."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class NegativeLinear(nn.Linear):
    """A linear layer whose weights are -exp(w), always negative, so that features only lower its output."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        nn.init.normal_(self.weight, mean=-3.0, std=0.1)

    def forward(self, features: Tensor) -> Tensor:
        """Outputs [N, outputs] of features [N, inputs]."""
        return linear(features, -torch.exp(self.weight), self.bias)


def ibp_cnn_s(image_shape: Sequence[int], outputs: int, width: int) -> nn.Sequential:
    """ProoD's discriminator, the CNN "S" (width 128 in the paper). It has no batch norm.

    Args:
        image_shape: (C, H, W).
        outputs: Number of logits.
        width: Channels of the first convolution.

    Returns:
        The network, from images [N, C, H, W] to logits [N, outputs].

    Source: Meinke et al. (2022), https://arxiv.org/abs/2106.04260
    """
    channels, height, side = image_shape
    features = 2 * width * (-(-height // 2) // 2) * (-(-side // 2) // 2)
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(features, width),
        nn.ReLU(inplace=True),
        NegativeLinear(width, outputs),
    )


def ibp_cnn_xl(image_shape: Sequence[int], outputs: int, width: int) -> nn.Sequential:
    """GOOD's classifier, the CNN "XL" (width 128 in the paper). It has no batch norm.

    Args:
        image_shape: (C, H, W).
        outputs: Number of logits.
        width: Channels of the first convolution.

    Returns:
        The network, from images [N, C, H, W] to logits [N, outputs].

    Source: Bitterwolf et al. (2020), https://arxiv.org/abs/2007.08473
    """
    channels, height, side = image_shape
    features = 2 * width * -(-height // 2) * -(-side // 2)
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(features, 4 * width),
        nn.ReLU(inplace=True),
        nn.Linear(4 * width, 4 * width),
        nn.ReLU(inplace=True),
        nn.Linear(4 * width, outputs),
    )
