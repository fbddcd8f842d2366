"""Image sets of pure noise."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from oodcert.data.imageset import ImageSet
from oodcert.errors import InputError

KINDS = ("gaussian", "uniform")
NOISE = tuple(f"{kind}_noise" for kind in KINDS)


def noise_set(kind: str, n: int, image_shape: Sequence[int], seed: int) -> ImageSet:
    """Noise images as an image set. Image i depends on kind, image_shape, seed and i alone, whatever n is.

    Args:
        kind: "uniform", U[0, 1], or "gaussian", 0.5 + 0.25 z clipped to [0, 1]; both rounded to multiples of 1/255.
        n: number of images.
        image_shape: (C, H, W).
        seed: of the random numbers.

    Returns:
        The ImageSet `<kind>_noise`: ids 0 to n - 1, labels -1.

    Raises:
        InputError: on another kind.
    """
    if kind not in KINDS:
        raise InputError(f"There is no noise of kind {kind!r}: use one of {', '.join(KINDS)}.")
    channels, height, width = image_shape
    digest = hashlib.sha256(f"{seed}/{kind}".encode()).digest()
    key = np.frombuffer(digest[:16], "<u8").astype(np.uint64)
    images = np.empty((n, height, width, channels), np.uint8)
    for index in range(n):
        generator = np.random.Generator(np.random.Philox(key=key, counter=[0, index, 0, 0]))
        if kind == "uniform":
            values = generator.random(images.shape[1:])
        else:
            values = np.clip(0.5 + 0.25 * generator.standard_normal(images.shape[1:]), 0, 1)
        images[index] = np.rint(255 * values)
    return ImageSet(f"{kind}_noise", images, np.full(n, -1, np.int64), np.arange(n))
