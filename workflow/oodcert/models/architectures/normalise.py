"""The normalisation of images that a network was trained with, as its first layer."""

import torch
from torch import nn


class Normalise(nn.Module):
    """(images - mean) / std, per channel of images [N, C, H, W] in [0, 1]. Both are fixed, no part of the weights."""

    def __init__(self, mean, std):
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            # on the CPU also where a network without storage, on the meta device, is being built
            self.register_buffer(name, torch.tensor(values, device="cpu").reshape(-1, 1, 1), persistent=False)

    def forward(self, images):
        return (images - self.mean) / self.std
