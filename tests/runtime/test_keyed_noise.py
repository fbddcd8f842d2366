import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodcert.runtime.keyed_noise import BLOCK, derive_seed, keyed_batch, keyed_noise, keyed_uniform


@given(first=st.integers(0, 3 * BLOCK), count=st.integers(1, 3 * BLOCK))
def test_any_range_of_draws_is_the_same_numbers(first, count):
    every = keyed_noise(0, "set", 7, 0, 6 * BLOCK, (2, 3))
    assert np.array_equal(keyed_noise(0, "set", 7, first, count, (2, 3)), every[first : first + count])


@pytest.mark.parametrize("other", [(1, "set", 7), (0, "sett", 7), (0, "set", 8)])
def test_seed_name_and_sample_each_change_the_draws(other):
    assert not np.array_equal(keyed_noise(0, "set", 7, 0, 8, (4,)), keyed_noise(*other, 0, 8, (4,)))


def test_draws_have_the_promised_distribution():
    normal = keyed_noise(0, "n", 0, 0, 1000, (100,))
    uniform = keyed_uniform(0, "u", 0, 0, 1000, (100,))
    assert abs(normal.mean()) < 0.02 and abs(normal.std() - 1) < 0.02
    assert uniform.min() >= 0 and uniform.max() < 1 and abs(uniform.mean() - 0.5) < 0.01


def test_no_two_draws_of_samples_coincide():
    draws = keyed_batch(keyed_noise, 0, "set", range(50), 100, (4,)).reshape(-1, 4)
    assert len(np.unique(draws, axis=0)) == 5000


def test_derived_seeds_differ_by_name():
    assert len({derive_seed(0, "a"), derive_seed(0, "b"), derive_seed(1, "a"), derive_seed(0, "a", "b")}) == 4
