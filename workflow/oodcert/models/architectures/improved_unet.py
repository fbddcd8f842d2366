"""The UNet of improved diffusion (Nichol and Dhariwal 2021) for CIFAR-10, with the parameter names of its weights."""

from collections import OrderedDict
from math import sqrt

import torch
from torch import Tensor, nn

from oodcert.models.architectures.timesteps import sinusoids

GROUPS, HEADS, DROPOUT = 32, 4, 0.3
MULTIPLIERS = (1, 2, 2, 2)  # of the width, per level: 32x32, 16x16, 8x8, 4x4
ATTENTION = (1, 2)  # levels
BLOCKS = 3  # per level on the way down; one more on the way up
TIMESTEPS, EMBEDDED_TIMESTEPS = 4000, 1000  # the network sees the timesteps of its schedule scaled to [0, 1000)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after group norm and SiLU; the timestep scales and shifts the second norm's output."""

    def __init__(self, in_channels: int, out_channels: int, embedding: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, in_channels), nn.SiLU(), nn.Conv2d(in_channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * out_channels))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, out_channels),
            nn.SiLU(),
            nn.Dropout(DROPOUT),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        changes = in_channels != out_channels
        self.skip_connection = nn.Conv2d(in_channels, out_channels, 1) if changes else nn.Identity()

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Features [N, out_channels, H, W] of features [N, in_channels, H, W] and the timestep's embedding [N, E]."""
        scale, shift = self.emb_layers(embedding)[..., None, None].chunk(2, dim=1)
        normed = self.out_layers[0](self.in_layers(features))
        return self.skip_connection(features) + self.out_layers[1:](normed * (1 + scale) + shift)


class Attention(nn.Module):
    """Self-attention between the pixels, after group norm. The rows of qkv go by head first, then query, key, value."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Features of the same shape, [N, channels, H, W]."""
        pixels = features.flatten(2)
        query, key, value = self.qkv(self.norm(pixels)).unflatten(1, (HEADS, 3, -1)).unbind(2)  # [N, HEADS, c, pixels]
        attention = (query.mT @ key / sqrt(key.shape[2])).softmax(3)
        return (pixels + self.proj_out((value @ attention.mT).flatten(1, 2))).reshape(features.shape)


class Block(nn.Sequential):
    """Layers in sequence, of which the residual blocks also get the timestep's embedding."""

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]
        """Features after all layers, from features [N, C, H, W] and the timestep's embedding [N, E]."""
        for layer in self:
            features = layer(features, embedding) if isinstance(layer, ResidualBlock) else layer(features)
        return features


class ImprovedUNet(nn.Module):
    """Predicts the noise in x_t from x_t and the timestep.

    It has the flags of the CIFAR-10 model of openai/improved-diffusion, and that code's defaults for the flags which
    the model does not give; among these is rescale_timesteps. Three more outputs, the learned variances, are computed
    and left out.

    Args:
        width: Channels at the highest resolution, a multiple of 32. The paper's 128 makes 52.5 million parameters.

    Source: Nichol and Dhariwal (2021), https://arxiv.org/abs/2102.09672;
        https://github.com/openai/improved-diffusion
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, embedding = width, 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        channels = self._build_way_down(embedding)
        current = channels[-1]
        self.middle_block = Block(
            ResidualBlock(current, current, embedding), Attention(current), ResidualBlock(current, current, embedding)
        )
        self._build_way_up(channels, embedding)
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, 6, 3, padding=1))

    def _build_way_down(self, embedding: int) -> list[int]:
        """Makes input_blocks; returns the channels of every block's output."""
        self.input_blocks = nn.ModuleList([Block(nn.Conv2d(3, self.width, 3, padding=1))])
        channels = [self.width]
        for level, multiplier in enumerate(MULTIPLIERS):
            if level:
                halving = nn.Conv2d(channels[-1], channels[-1], 3, stride=2, padding=1)
                self.input_blocks.append(Block(_named(op=halving)))
                channels.append(channels[-1])
            for _ in range(BLOCKS):
                self.input_blocks.append(Block(*self._layers(channels[-1], level, embedding)))
                channels.append(multiplier * self.width)
        return channels

    def _build_way_up(self, channels: list[int], embedding: int) -> None:
        """Makes output_blocks, each of which also gets the output of an input block, the latest first."""
        current, skips = channels[-1], list(channels)
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(MULTIPLIERS))):
            for step in range(BLOCKS + 1):
                layers = self._layers(current + skips.pop(), level, embedding)
                current = MULTIPLIERS[level] * self.width
                if level and step == BLOCKS:
                    doubling = nn.Conv2d(current, current, 3, padding=1)
                    layers.append(_named(up=nn.Upsample(scale_factor=2), conv=doubling))
                self.output_blocks.append(Block(*layers))

    def _layers(self, in_channels: int, level: int, embedding: int) -> list[nn.Module]:
        """A residual block and, at some levels, attention."""
        out_channels = MULTIPLIERS[level] * self.width
        block = ResidualBlock(in_channels, out_channels, embedding)
        return [block, Attention(out_channels)] if level in ATTENTION else [block]

    def forward(self, noisy: Tensor, timestep: Tensor) -> Tensor:
        """The predicted noise.

        Args:
            noisy: x_t [N, 3, H, W] in the [-1, 1] scale; H and W are multiples of 8.
            timestep: [N] or [1], in [0, 4000), the schedule's number of steps; it may be fractional.

        Returns:
            The noise [N, 3, H, W].
        """
        scaled = EMBEDDED_TIMESTEPS / TIMESTEPS * timestep.to(noisy.dtype)
        embedding, features, skips = self.time_embed(sinusoids(scaled, self.width)), noisy, []
        for block in self.input_blocks:
            features = block(features, embedding)
            skips.append(features)
        features = self.middle_block(features, embedding)
        for block in self.output_blocks:
            features = block(torch.cat([features, skips.pop()], 1), embedding)
        return self.out(features)[:, :3]


def _named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))
