"""The UNet of improved diffusion (Nichol and Dhariwal 2021) for CIFAR-10, with the parameter names of its weights."""

from collections import OrderedDict
from math import log, sqrt

import torch
from torch import nn

GROUPS, HEADS, DROPOUT = 32, 4, 0.3
MULTIPLIERS = (1, 2, 2, 2)  # of the width, per level: 32x32, 16x16, 8x8, 4x4
ATTENTION = (1, 2)  # levels
BLOCKS = 3  # per level on the way down; one more on the way up
TIMESTEPS, EMBEDDED_TIMESTEPS = 4000, 1000  # the network sees the timesteps of its schedule scaled to [0, 1000)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after group norm and SiLU; the timestep scales and shifts the second norm's output."""

    def __init__(self, inside, outside, embedding):
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, inside), nn.SiLU(), nn.Conv2d(inside, outside, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * outside))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, outside), nn.SiLU(), nn.Dropout(DROPOUT), nn.Conv2d(outside, outside, 3, padding=1)
        )
        self.skip_connection = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, features, embedding):
        scale, shift = self.emb_layers(embedding)[..., None, None].chunk(2, dim=1)
        normed = self.out_layers[0](self.in_layers(features))
        return self.skip_connection(features) + self.out_layers[1:](normed * (1 + scale) + shift)


class Attention(nn.Module):
    """Self-attention between the pixels, after group norm. The rows of qkv go by head first, then query, key, value."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, features):
        pixels = features.flatten(2)
        query, key, value = self.qkv(self.norm(pixels)).unflatten(1, (HEADS, 3, -1)).unbind(2)  # [N, HEADS, c, pixels]
        attention = (query.mT @ key / sqrt(key.shape[2])).softmax(3)
        return (pixels + self.proj_out((value @ attention.mT).flatten(1, 2))).reshape(features.shape)


class Block(nn.Sequential):
    """Layers in sequence, of which the residual blocks also get the timestep's embedding."""

    def forward(self, features, embedding):
        for layer in self:
            features = layer(features, embedding) if isinstance(layer, ResidualBlock) else layer(features)
        return features


class ImprovedUNet(nn.Module):
    """Predicts the noise [N, 3, H, W] in x_t from (x_t [N, 3, H, W] in the [-1, 1] scale, timestep [N]).

    Timesteps are those of the schedule of 4000 steps, and may be fractional. width: a multiple of 32, 128 as published
    (52.5 million parameters). Three more outputs, the learned variances, are computed and left out.
    Source: openai/improved-diffusion, the flags of its CIFAR-10 model and the defaults of those it does not give; among
    these rescale_timesteps.
    """

    def __init__(self, width):
        super().__init__()
        self.width, embedding = width, 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))

        def layers(inside, level):
            outside = MULTIPLIERS[level] * width
            return [ResidualBlock(inside, outside, embedding), *([Attention(outside)] if level in ATTENTION else [])]

        blocks, channels = [Block(nn.Conv2d(3, width, 3, padding=1))], [width]  # channels: of every block's output
        for level, multiplier in enumerate(MULTIPLIERS):
            if level:
                blocks.append(Block(_named(op=nn.Conv2d(channels[-1], channels[-1], 3, stride=2, padding=1))))
                channels.append(channels[-1])
            for _ in range(BLOCKS):
                blocks.append(Block(*layers(channels[-1], level)))
                channels.append(multiplier * width)
        self.input_blocks, current = nn.ModuleList(blocks), channels[-1]
        self.middle_block = Block(
            ResidualBlock(current, current, embedding), Attention(current), ResidualBlock(current, current, embedding)
        )
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(MULTIPLIERS))):
            for step in range(BLOCKS + 1):
                block = layers(current + channels.pop(), level)
                current = MULTIPLIERS[level] * width
                if level and step == BLOCKS:
                    block.append(_named(up=nn.Upsample(scale_factor=2), conv=nn.Conv2d(current, current, 3, padding=1)))
                self.output_blocks.append(Block(*block))
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, 6, 3, padding=1))

    def forward(self, noisy, timestep):
        embedding, features, kept = self.time_embed(self._waves(timestep.to(noisy.dtype))), noisy, []
        for block in self.input_blocks:
            features = block(features, embedding)
            kept.append(features)
        features = self.middle_block(features, embedding)
        for block in self.output_blocks:
            features = block(torch.cat([features, kept.pop()], 1), embedding)
        return self.out(features)[:, :3]

    def _waves(self, timestep):
        """Cosines, then sines, of the timestep at frequencies from 1 to almost 1/10000: [N, width]."""
        half = self.width // 2
        frequencies = torch.exp(-log(10000) * torch.arange(half, device=timestep.device).to(timestep) / half)
        angles = (EMBEDDED_TIMESTEPS / TIMESTEPS * timestep)[:, None] * frequencies
        return torch.cat([angles.cos(), angles.sin()], 1)


def _named(**layers):
    return nn.Sequential(OrderedDict(layers))
