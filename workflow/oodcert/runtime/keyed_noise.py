"""Random numbers keyed by what they are for, so that batching, shards and order never change them."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from oodcert.errors import InputError

BLOCK = 64  # draws generated together; a fixed grid, so that any range of draws is the same numbers

Draw = Callable[[int, str, int, int, int, Sequence[int]], NDArray[np.float32]]  # keyed_noise or keyed_uniform
_Generate = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float32]]


def derive_seed(seed: int, *names: object) -> int:
    """A seed for one purpose.

    Args:
        seed: Of the run.
        names: What the seed is for; each counts as its str.

    Returns:
        63 bits of a hash of all of them.
    """
    return int.from_bytes(_digest(seed, *names)[:8], "big") >> 1


def keyed_noise(seed: int, name: str, sample: int, first: int, count: int, shape: Sequence[int]) -> NDArray[np.float32]:
    """Standard normal draws first .. first + count - 1 of one sample.

    Draw i depends on (seed, name, sample, i) and the shape alone. Philox is counter-based: the key is a hash of seed
    and name, the counter holds the sample and the block of draws.

    Args:
        seed: Of the run.
        name: What the draws are for, such as a set of images.
        sample: Number of the sample, in [0, 2**63).
        first: Number of the first draw, from 0.
        count: Number of draws.
        shape: Of one draw.

    Returns:
        float32 [count, *shape].

    Raises:
        InputError: The sample has another number, whose noise would be that of one in this range.

    Source: Salmon et al. (2011), https://doi.org/10.1145/2063384.2063405
    """
    return _draws(seed, name, sample, first, count, shape, _normal)


def keyed_uniform(
    seed: int, name: str, sample: int, first: int, count: int, shape: Sequence[int]
) -> NDArray[np.float32]:
    """Uniform draws in [0, 1) of one sample, keyed like those of `keyed_noise`.

    Args:
        seed: Of the run.
        name: What the draws are for, such as a set of images.
        sample: Number of the sample.
        first: Number of the first draw, from 0.
        count: Number of draws.
        shape: Of one draw.

    Returns:
        float32 [count, *shape].
    """
    return _draws(seed, name, sample, first, count, shape, _uniform)


def keyed_batch(
    draw: Draw, seed: int, name: str, samples: Iterable[int], count: int, shape: Sequence[int]
) -> NDArray[np.float32]:
    """The first draws of several samples.

    Args:
        draw: `keyed_noise` or `keyed_uniform`.
        seed: Of the run.
        name: What the draws are for, such as a set of images.
        samples: Numbers of the N samples.
        count: Number of draws per sample.
        shape: Of one draw.

    Returns:
        float32 [count, N, *shape].
    """
    return np.stack([draw(seed, name, sample, 0, count, shape) for sample in samples], axis=1)


def _draws(
    seed: int, name: str, sample: int, first: int, count: int, shape: Sequence[int], generate: _Generate
) -> NDArray[np.float32]:
    if not 0 <= sample < 2**63:
        raise InputError(f"Sample {sample}: noise is keyed by whole numbers from 0 to 2**63 - 1.")
    key, skip = int.from_bytes(_digest(seed, name)[:16], "big"), first % BLOCK
    blocks = range(first // BLOCK, -(-(first + count) // BLOCK))
    drawn = [_block(key, int(sample), block, tuple(shape), generate) for block in blocks]
    return np.concatenate(drawn)[skip : skip + count]


@lru_cache(maxsize=2)  # a block of which some draws are asked for is often asked for again at once
def _block(key: int, sample: int, block: int, shape: tuple[int, ...], generate: _Generate) -> NDArray[np.float32]:
    generator = np.random.Generator(np.random.Philox(key=key, counter=[0, block, sample, 0]))
    return generate(generator, (BLOCK, *shape))


def _normal(generator: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float32]:
    return generator.standard_normal(size, np.float32)


def _uniform(generator: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float32]:
    return generator.random(size, np.float32)


def _digest(*names: object) -> bytes:
    return hashlib.sha256("\0".join(str(name) for name in names).encode()).digest()
