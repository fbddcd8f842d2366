"""The image sets of a profile: bundled ones, a mirror's, and one's own; made alike and fairly cut."""

import copy

import numpy as np
import pytest

from conftest import read_config
from oodcert.data.sets import ood_sets, training_sets
from oodcert.errors import InputError

CONFIG = read_config()
OOD = CONFIG["data"]["ood"]


def config(**changes):
    changed = copy.deepcopy(CONFIG)
    changed["data"].update(changes)
    return changed


def test_the_digits_sets():
    inside, outside = training_sets(CONFIG), ood_sets(CONFIG)
    assert {name: len(image_set) for name, image_set in inside.items()} == {
        "id_train": 1043,
        "id_test": 400,
        "outliers": 2000,
    }
    assert {name: len(image_set) for name, image_set in outside.items()} == dict.fromkeys(OOD, 100)
    assert all((image_set.labels == -1).all() for image_set in (*outside.values(), inside["outliers"]))
    assert set(inside["id_test"].labels) == set(range(8))


def test_a_longer_test_set_begins_with_the_shorter():
    short, long = (ood_sets(config(test_images=n)) for n in (20, 60))
    for name in OOD:
        np.testing.assert_array_equal(long[name].images[:20], short[name].images)
        np.testing.assert_array_equal(long[name].ids[:20], short[name].ids)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_classes": 10}, ["class count disagrees", "10", "8"]),
        ({"num_classes": 7}, ["class count disagrees", "label 7"]),
        ({"image_shape": [3, 8, 8]}, ["data.image_shape", "[3, 8, 8]", "[1, 8, 8]"]),
        ({"test_images": 355}, ["held_out_digits", "355", "354", "data.test_images"]),
    ],
)
def test_a_config_that_does_not_fit_is_refused(changes, words):
    with pytest.raises(InputError) as caught:
        training_sets(config(**changes)), ood_sets(config(**changes))
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value
