"""Images and networks that the attacks' tests attack, and a linear score with its maximum in closed form."""

import torch
from torch import nn

from oodcert.models.detector import Detector
from oodcert.models.networks import build_network

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.rand(6, 1, 8, 8, generator=GENERATOR)  # near the borders of the pixel range too
WEIGHT = torch.randn(64, generator=GENERATOR)


def linear_score(images):
    return images.flatten(1) @ WEIGHT


def linear_maximum(epsilon, norm):
    """The highest linear score [N] of the IMAGES' balls in [0, 1]."""
    images, weight = IMAGES.flatten(1).double(), WEIGHT.double()
    if norm == "linf":
        return torch.where(weight > 0, (images + epsilon).clamp(max=1), (images - epsilon).clamp(min=0)) @ weight
    low, high = torch.zeros(len(images), 1).double(), torch.full((len(images), 1), 100.0).double()
    for _ in range(100):  # the maximum is at clamp(x + t weight), with t as large as the ball allows
        middle = (low + high) / 2
        inside = ((images + middle * weight).clamp(0, 1) - images).norm(dim=1, keepdim=True) <= epsilon
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    return (images + low * weight).clamp(0, 1) @ weight


def detector(score="msp", classes=4, seed=0):
    """A small convolutional detector, in double precision, so that batches differ by less than the tests see."""
    torch.manual_seed(seed)
    network = build_network({"name": "cnn", "width": 4}, (1, 8, 8), classes).double()
    for tensor in network.parameters():
        tensor.data.mul_(3)
    return Detector(nn.Sequential(Double(), network), score)


class Double(nn.Module):
    def forward(self, images):
        return images.double()


class Rounded(nn.Module):
    """Rounds images to tenths, which hides the gradient."""

    def forward(self, images):
        return (10 * images).round() / 10
