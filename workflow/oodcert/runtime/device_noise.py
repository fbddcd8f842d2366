"""Normal noise made on the device that needs it, the same on every device: Philox4x32-10 (Salmon et al. 2011).

The generator is written in torch's integer operations. The numbers of a torch.Generator on a GPU depend on how many
threads the GPU's model is given, and on what was drawn before. Here each number is a function of what it is for.
"""

from collections.abc import Sequence
from math import pi, prod

import torch
from torch import Tensor

from oodcert.runtime.keyed_noise import derive_seed

ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
STEPS = 0x9E3779B9, 0xBB67AE85  # of the key, from round to round
WORD = 0xFFFFFFFF


def philox(counter: Sequence[Tensor], key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four random 32-bit words for each counter.

    Products of two words are taken modulo 2**64, as torch's int64 does on every device. So their bits are right, though
    their sign may not be.

    Args:
        counter: Four words, int64 tensors that broadcast.
        key: Two words.

    Returns:
        Four int64 tensors of one shape, in [0, 2**32).

    Source: Salmon et al. (2011), https://doi.org/10.1145/2063384.2063405
    """
    first, second, third, fourth = counter
    for step in range(ROUNDS):
        one, other = ((start + step * change) & WORD for start, change in zip(key, STEPS, strict=True))
        left, right = first * MULTIPLIERS[0], third * MULTIPLIERS[1]
        first, second, third, fourth = (
            _high(right) ^ second ^ one,
            right & WORD,
            _high(left) ^ fourth ^ other,
            left & WORD,
        )
    return first, second, third, fourth


def device_noise(seed: int, name: str, samples: Tensor, draws: Tensor, shape: Sequence[int]) -> Tensor:
    """Standard normal draws, row by row.

    Row i depends on (seed, name, samples[i], draws[i]) and the shape alone. So do the draws of
    oodcert.runtime.keyed_noise.keyed_noise, which are other numbers. The words of Philox become normal by the method of
    Box and Muller in float64: two devices agree but for the rounding of a logarithm or a sine, seen rarely in float32.
    No draw is beyond 6.8, where a normal variable is once in 7e10 times.

    Args:
        seed: Of the run.
        name: What the draws are for, such as a set of images.
        samples: Number of the sample of each row, int64 [B], not negative.
        draws: Number of the draw of each row, int64 [B], in [0, 2**32).
        shape: Of one draw.

    Returns:
        float32 [B, *shape], on the device of samples.

    Source: Salmon et al. (2011), https://doi.org/10.1145/2063384.2063405; Box and Muller (1958),
        https://doi.org/10.1214/aoms/1177706645
    """
    size, number = prod(shape), derive_seed(seed, "philox", name)
    blocks = torch.arange(-(-size // 4), device=samples.device)
    low, high = (samples & WORD)[:, None], _high(samples)[:, None]
    words = philox((blocks, draws[:, None], low, high), (number & WORD, number >> 32))
    uniforms = [(word.double() + 0.5) / 2**32 for word in words]
    normals = []
    for first, second in (uniforms[:2], uniforms[2:]):
        radius, angle = (-2 * first.log()).sqrt(), 2 * pi * second
        normals += [(radius * angle.cos()).float(), (radius * angle.sin()).float()]
    return torch.stack(normals, -1).flatten(1)[:, :size].unflatten(1, shape)


def _high(number: Tensor) -> Tensor:
    return number >> 32 & WORD
