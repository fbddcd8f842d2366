"""Noise made on the device: the known words, the promised distribution, and a key for every number."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from oodcert.runtime.device_noise import device_noise, philox

KNOWN = {  # Random123's tests/kat_vectors, "philox4x32 10": counter, key -> words
    "00000000 00000000 00000000 00000000 00000000 00000000": "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    "ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff": "408f276d 41c83b0e a20bc7c6 6d5451fd",
    "243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0": "d16cfe09 94fdcceb 5001e420 24126ea1",
}


def draws(samples, numbers, shape=(3, 5), seed=0, name="set"):
    return device_noise(seed, name, torch.tensor(samples), torch.tensor(numbers), shape)


@pytest.mark.parametrize(("given", "expected"), KNOWN.items())
def test_the_known_words_come_out(given, expected):
    *counter, one, other = (int(word, 16) for word in given.split())
    words = philox([torch.tensor([word, word]) for word in counter], (one, other))
    assert [f"{word[1].item():08x}" for word in words] == expected.split()


def test_a_draw_is_the_same_in_every_batch():
    samples, numbers = [7, 7, 3, 2**40, 7], [0, 1, 0, 5, 999_999_999]
    together = draws(samples, numbers)
    assert together.shape == (5, 3, 5) and together.dtype == torch.float32
    for row in range(5):
        assert torch.equal(draws(samples[row : row + 1], numbers[row : row + 1])[0], together[row])
    assert torch.equal(draws(samples[::-1], numbers[::-1]), together.flip(0))


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"name": "sett"}, {"samples": [8]}, {"samples": [7 + 2**32]}, {"numbers": [1]}],
)
def test_seed_name_sample_and_draw_each_change_all_numbers(other):
    both = draws([7], [0]), draws(**{"samples": [7], "numbers": [0], **other})
    assert (both[0] != both[1]).all()


def test_draws_are_standard_normal_and_independent():
    noise = draws(np.repeat(range(50), 200).tolist(), list(range(200)) * 50, (21,)).double()
    assert kstest(noise.flatten(), "norm").pvalue > 0.01
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
    assert abs((noise**4).mean() - 3) < 0.1 and noise.abs().max() < 6.8
    elements = np.corrcoef(noise.T.numpy())  # the four of one counter, and neighbours
    assert abs(elements - np.eye(21)).max() < 0.05
    neighbours = np.corrcoef(noise[1:].flatten(), noise[:-1].flatten())
    assert abs(neighbours[0, 1]) < 0.01
    assert len(noise.flatten().unique()) > 0.99 * noise.numel()
