"""Random augmentation of images on their device, decided by a generator alone."""

import torch
from torch import Tensor
from torch.nn.functional import pad

GROUP = 8  # images that share one draw of AutoAugment


def augment(images: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Augmented images.

    "flip_crop" flips half of the images and crops after padding with black, by 4 pixels at 32 and by an eighth of each
    side in general. "auto" is flip_crop followed by AutoAugment.

    Args:
        images: uint8 [N, C, H, W].
        kind: "none", "flip_crop" or "auto".
        generator: On the CPU.

    Returns:
        uint8 [N, C, H, W], on the images' device.
    """
    if kind == "none":
        return images
    images = flip_crop(images, generator)
    return auto_augment(images, generator) if kind == "auto" else images


def flip_crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """Every image flipped left to right with probability 1/2, and cropped at random from its padded self.

    Args:
        images: uint8 [N, C, H, W].
        generator: On the CPU.

    Returns:
        uint8 [N, C, H, W].
    """
    n, _, height, width = images.shape
    rows, columns = (
        torch.randint(2 * (side // 8) + 1, (n, 1), generator=generator) + torch.arange(side) for side in (height, width)
    )
    flipped = torch.rand(n, 1, generator=generator, dtype=torch.float32) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    padded = pad(images, (width // 8, width // 8, height // 8, height // 8))
    sample, rows, columns = (
        index.to(images.device) for index in (torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None])
    )
    return padded.permute(0, 2, 3, 1)[sample, rows, columns].permute(0, 3, 1, 2).contiguous()


def auto_augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """AutoAugment with its CIFAR-10 policies, by torchvision.

    torchvision makes one draw of policy, probabilities and signs for a whole tensor, from torch's global generator.
    So GROUP images that follow each other share a draw, and the global generator is set aside meanwhile.

    Args:
        images: uint8 [N, C, H, W] of 1 or 3 channels.
        generator: On the CPU.

    Returns:
        uint8 [N, C, H, W].

    Source: Cubuk et al. (2019), https://arxiv.org/abs/1805.09501
    """
    from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy

    policy, augmented = AutoAugment(AutoAugmentPolicy.CIFAR10), images.clone()
    seed = int(torch.randint(2**62, (), generator=generator).item())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPU's generators as well
        for first in range(0, len(images), GROUP):
            augmented[first : first + GROUP] = policy(images[first : first + GROUP])
    return augmented
