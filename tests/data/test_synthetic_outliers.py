"""Synthetic outliers: as many as asked for, behind the set's own, each of its kind."""

import numpy as np
import pytest

from oodcert.data.imageset import ImageSet
from oodcert.data.synthetic_outliers import with_synthetic


@pytest.fixture
def outliers():
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 12, 3), dtype=np.uint8)
    return ImageSet("outliers", images, np.full(40, -1), np.arange(100, 140))


@pytest.mark.parametrize(("share", "added"), [(0, 0), (0.2, 10), (0.5, 40)])
def test_the_share_is_that_of_the_whole_set(outliers, share, added):
    made = with_synthetic(outliers, share, 0)
    assert len(made) == 40 + added
    np.testing.assert_array_equal(made.images[:40], outliers.images)
    np.testing.assert_array_equal(made.ids, np.arange(100, 140 + added))
    assert (made.labels == -1).all()


def test_shuffled_images_hold_the_same_pixels(outliers):
    made = with_synthetic(outliers, 0.5, 0).images[40:]
    for i in (0, 1, 4, 5):
        before, after = (np.sort(images[i].reshape(-1, 3), axis=0) for images in (outliers.images, made))
        np.testing.assert_array_equal(before, after)
        assert (made[i] != outliers.images[i]).any()
    block = outliers.images[1][:2, :3]
    blocks = made[1].reshape(4, 2, 4, 3, 3).swapaxes(1, 2).reshape(16, 2, 3, 3)
    assert (blocks == block).all((1, 2, 3)).any()


def test_smooth_noise_is_smooth(outliers):
    made = with_synthetic(outliers, 0.5, 0).images[40:].astype(int)
    steps = [np.abs(np.diff(image, axis=1)).mean() for image in made]
    assert max(steps[2::4]) < min(steps[0::4])


def test_the_images_depend_on_the_seed_alone(outliers):
    first, again, other = (with_synthetic(outliers, 0.5, seed).images for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
