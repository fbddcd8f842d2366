"""A small UNet that predicts the noise of a diffusion model, at a fraction of the images' resolution."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from oodcert.models.architectures.timesteps import Sinusoids

GROUPS = 8  # of the group norms


class PatchUNet(nn.Module):
    """Predicts the noise in x_t from x_t and the timestep.

    Blocks of patch x patch pixels are folded into channels first, so that the UNet runs at 1/patch of the resolution.

    Args:
        image_shape: (C, H, W). H and W are multiples of patch times 2^(number of resolutions - 1).
        channels: Width of the UNet at each resolution, the highest first; multiples of 8.
        patch: Side of the blocks of pixels; 1 folds nothing.

    Source: Ho et al. (2020), https://arxiv.org/abs/2006.11239
    """

    def __init__(self, image_shape: Sequence[int], channels: Sequence[int], patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.unet = SmallUNet(image_shape[0] * patch**2, channels)

    def forward(self, noisy: Tensor, timestep: Tensor) -> Tensor:
        """The predicted noise.

        Args:
            noisy: x_t [N, C, H, W] in the [-1, 1] scale.
            timestep: [N], [1] or a scalar; it may be fractional.

        Returns:
            The noise [N, C, H, W].
        """
        return pixel_shuffle(self.unet(pixel_unshuffle(noisy, self.patch), timestep), self.patch)


class SmallUNet(nn.Module):
    """A UNet without attention.

    It has one residual block per resolution on the way down, two in the middle, and two per resolution on the way up.
    The names, order and initial values of its tensors are those of the UNet2DModel of diffusers with these settings, so
    that weights of either fit the other, and the numbers computed are the same.

    Args:
        image_channels: Channels of the input and of the output.
        widths: Channels at each resolution, the highest first; multiples of 8.

    Source: Ho et al. (2020), https://arxiv.org/abs/2006.11239; the names: https://github.com/huggingface/diffusers
    """

    def __init__(self, image_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        embedding = 4 * widths[0]
        self.conv_in = nn.Conv2d(image_channels, widths[0], 3, padding=1)
        self.time_proj = Sinusoids(widths[0])
        self.time_embedding = _named(
            linear_1=nn.Linear(widths[0], embedding), act=nn.SiLU(), linear_2=nn.Linear(embedding, embedding)
        )
        # the up blocks come before the middle in the state dict, and after it in the order of initialisation
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        lowest, current = len(widths) - 1, widths[0]
        skips = [current]  # channels of the features that are kept for the way up
        for level, width in enumerate(widths):
            self.down_blocks.append(DownBlock(current, width, embedding, halves=level < lowest))
            current = width
            skips += [width] * (2 if level < lowest else 1)
        self.mid_block = Residuals([current, current], current, embedding)
        for level, width in reversed(list(enumerate(widths))):
            inputs = [current + skips.pop(), width + skips.pop()]
            self.up_blocks.append(UpBlock(inputs, width, embedding, doubles=level > 0))
            current = width
        self.conv_norm_out = nn.GroupNorm(GROUPS, current)
        self.conv_out = nn.Conv2d(current, image_channels, 3, padding=1)

    def forward(self, noisy: Tensor, timestep: Tensor) -> Tensor:
        """The predicted noise [N, image_channels, H, W], from images of that shape and timesteps [N], [1] or []."""
        waves = self.time_proj(timestep.to(noisy.device).reshape(-1).expand(len(noisy)))
        embedding = self.time_embedding(waves.to(self.conv_in.weight.dtype))
        features = self.conv_in(noisy)
        skips = [features]
        for block in self.down_blocks:
            features = block(features, embedding, skips)
        features = self.mid_block(features, embedding)
        for block in self.up_blocks:
            features = block(features, embedding, skips)
        return self.conv_out(silu(self.conv_norm_out(features)))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after group norm and SiLU, added to their input.

    The timestep's embedding scales and shifts the output of the second norm. The input passes a 1x1 convolution where
    the number of channels changes.
    """

    def __init__(self, in_channels: int, out_channels: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(embedding, 2 * out_channels)
        self.norm2 = nn.GroupNorm(GROUPS, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        changes = in_channels != out_channels
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if changes else nn.Identity()

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Features [N, out_channels, H, W] of features [N, in_channels, H, W] and the embedding [N, E]."""
        scale, shift = self.time_emb_proj(silu(embedding))[..., None, None].chunk(2, dim=1)
        normed = self.norm2(self.conv1(silu(self.norm1(features))))
        return self.conv_shortcut(features) + self.conv2(silu(normed * (1 + scale) + shift))


class Residuals(nn.Module):
    """Residual blocks of one width, one for each number of input channels."""

    def __init__(self, in_channels: Sequence[int], width: int, embedding: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResidualBlock(channels, width, embedding) for channels in in_channels)

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Features [N, width, H, W] after all blocks."""
        for block in self.resnets:
            features = block(features, embedding)
        return features


class DownBlock(Residuals):
    """A residual block, then a convolution of stride 2 unless the resolution is the lowest.

    The outputs of both are skips, which the way up gets again.
    """

    def __init__(self, in_channels: int, width: int, embedding: int, *, halves: bool) -> None:
        super().__init__([in_channels], width, embedding)
        self.downsamplers = nn.ModuleList(
            [_named(conv=nn.Conv2d(width, width, 3, stride=2, padding=1))] if halves else []
        )

    def forward(self, features: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:  # type: ignore[override]
        """Features at the next resolution; `skips` grows by what the way up takes from it."""
        for layer in (*self.resnets, *self.downsamplers):
            features = layer(features, embedding) if isinstance(layer, ResidualBlock) else layer(features)
            skips.append(features)
        return features


class UpBlock(Residuals):
    """Residual blocks that each get the latest skip beside their input.

    Then the resolution is doubled, unless it is the highest.
    """

    def __init__(self, in_channels: Sequence[int], width: int, embedding: int, *, doubles: bool) -> None:
        super().__init__(in_channels, width, embedding)
        self.upsamplers = nn.ModuleList(
            [_named(up=nn.Upsample(scale_factor=2), conv=nn.Conv2d(width, width, 3, padding=1))] if doubles else []
        )

    def forward(self, features: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:  # type: ignore[override]
        """Features at the next resolution; `skips` shrinks by one for each block."""
        for block in self.resnets:
            features = block(torch.cat([features, skips.pop()], 1), embedding)
        for layer in self.upsamplers:
            features = layer(features)
        return features


def _named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))
