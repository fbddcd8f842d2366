"""Outliers that no camera took, made of the images of an outlier set.

Outlier sets hold photographs alone. Networks trained on them may take for in-distribution what is further away, noise
above all. These images stand for some of it. The test sets' own noises are not among them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from oodcert.data.imageset import ImageSet


def with_synthetic(outliers: ImageSet, share: float, seed: int) -> ImageSet:
    """Puts synthetic outliers behind those of a set. Their kinds take turns.

    - Shuffled pixels: an image's pixels in random order.
    - Shuffled blocks: its blocks of a quarter of its height and width in random order.
    - Smooth noise: normal noise on a coarse grid of 2, 4 or 8 points a side, enlarged to the image's size.
    - Changed colours: every channel multiplied by a factor from -3 to 3 around its mean.

    Args:
        outliers: the set. Image i of the synthetic ones is made of its image i.
        share: of the synthetic ones in the result, in [0, 1/2].
        seed: of the random numbers.

    Returns:
        The set with `share` / (1 - `share`) times as many synthetic images behind it. Their labels are -1, and their
        ids go on from the highest one.
    """
    count = round(len(outliers) * share / (1 - share))
    generator = np.random.default_rng(seed)
    makers = (_shuffled_pixels, _shuffled_blocks, _smooth_noise, _changed_colours)
    made = [makers[i % len(makers)](outliers.images[i], generator) for i in range(count)]
    images = np.concatenate([outliers.images, np.array(made, np.uint8).reshape(-1, *outliers.images.shape[1:])])
    labels = np.concatenate([outliers.labels, np.full(count, -1, np.int64)])
    return ImageSet(outliers.name, images, labels, np.append(outliers.ids, outliers.ids.max() + 1 + np.arange(count)))


def _shuffled_pixels(image: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    return generator.permutation(image.reshape(-1, image.shape[2])).reshape(image.shape)


def _shuffled_blocks(image: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    height, width, channels = image.shape
    blocks = image.reshape(4, height // 4, 4, width // 4, channels).swapaxes(1, 2)
    shuffled = generator.permutation(blocks.reshape(16, height // 4, width // 4, channels))
    return shuffled.reshape(4, 4, height // 4, width // 4, channels).swapaxes(1, 2).reshape(image.shape)


def _smooth_noise(image: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    height, width, channels = image.shape
    side = int(generator.choice([2, 4, 8]))
    coarse = generator.normal(generator.uniform(64, 192), 64, (side, side, channels))
    for axis, size in ((0, height), (1, width)):
        coarse = np.apply_along_axis(_enlarged, axis, coarse, size)
    return np.rint(coarse.clip(0, 255)).astype(np.uint8)


def _enlarged(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Linear interpolation of values to another number of points."""
    return np.interp(np.linspace(0, len(values) - 1, size), np.arange(len(values)), values)


def _changed_colours(image: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    means = image.mean((0, 1))
    factors = generator.uniform(-3, 3, image.shape[2])
    return np.rint((means + factors * (image - means)).clip(0, 255)).astype(np.uint8)
