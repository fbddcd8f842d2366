"""Random numbers keyed by what they are for, so that batching, shards and order never change them."""

import hashlib
from functools import lru_cache

import numpy as np

BLOCK = 64  # draws generated together; a fixed grid, so that any range of draws is the same numbers


def derive_seed(seed, *names):
    """A 63-bit seed for one purpose, from the run's seed and the purpose's names."""
    return int.from_bytes(_digest(seed, *names)[:8], "big") >> 1


def keyed_noise(seed, name, sample, first, count, shape):
    """Standard normal draws first .. first+count-1 of one sample: float32 [count, *shape].

    Draw i depends on (seed, name, sample, i) and the shape alone. Philox is counter-based (Salmon et al. 2011):
    the key is a hash of seed and name, the counter holds the sample and the block of draws.
    """
    return _draws(seed, name, sample, first, count, shape, _normal)


def keyed_uniform(seed, name, sample, first, count, shape):
    """Uniform draws in [0, 1), keyed like `keyed_noise`: float32 [count, *shape]."""
    return _draws(seed, name, sample, first, count, shape, _uniform)


def keyed_batch(draw, seed, name, samples, count, shape):
    """The first `count` draws of each sample, by `keyed_noise` or `keyed_uniform`: float32 [count, N, *shape]."""
    return np.stack([draw(seed, name, sample, 0, count, shape) for sample in samples], axis=1)


def _draws(seed, name, sample, first, count, shape, generate):
    key, skip = int.from_bytes(_digest(seed, name)[:16], "big"), first % BLOCK
    blocks = range(first // BLOCK, -(-(first + count) // BLOCK))
    drawn = [_block(key, int(sample), block, tuple(shape), generate) for block in blocks]
    return np.concatenate(drawn)[skip : skip + count]


@lru_cache(maxsize=2)  # a block that is asked for in parts is asked for again at once
def _block(key, sample, block, shape, generate):
    generator = np.random.Generator(np.random.Philox(key=key, counter=[0, block, sample, 0]))
    return generate(generator, (BLOCK, *shape))


def _normal(generator, size):
    return generator.standard_normal(size, np.float32)


def _uniform(generator, size):
    return generator.random(size, np.float32)


def _digest(*names):
    return hashlib.sha256("\0".join(str(name) for name in names).encode()).digest()
