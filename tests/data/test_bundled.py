import itertools

import numpy as np
import pandas as pd
import pytest

from oodcert.data import bundled
from oodcert.errors import InputError

SIZES = {
    "id_train": 1043,
    "id_test": 400,
    "held_out_digits": 354,
    "photo_crops": 400,
    "photo_patches": 400,
    "outliers": 2000,
}


@pytest.fixture(scope="module")
def sets():
    return {name: bundled.build(name) for name in SIZES}


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(bundled.SPLITS)


def test_committed_table_is_the_generated_one():
    assert bundled.SPLITS.read_text() == bundled.digits_splits().to_csv(index=False, lineterminator="\n")


def test_sizes_and_shapes(sets):
    for name, size in SIZES.items():
        assert sets[name].name == name
        assert sets[name].images.shape == (size, 8, 8, 1)


def test_labels(sets):
    np.testing.assert_array_equal(np.bincount(sets["id_test"].labels), 50)
    assert set(sets["id_train"].labels) == set(range(8))
    for name in ("held_out_digits", "photo_crops", "photo_patches", "outliers"):
        assert (sets[name].labels == -1).all()


def test_images_are_those_of_scikit_learn(sets):
    from sklearn.datasets import load_digits, load_sample_image

    digits = load_digits()
    for name in ("id_train", "id_test", "held_out_digits"):
        np.testing.assert_array_equal(np.rint(sets[name].floats()[:, 0] * 16), digits.images[sets[name].ids])
    np.testing.assert_array_equal(sets["id_test"].labels, digits.target[sets["id_test"].ids])
    assert set(digits.target[sets["held_out_digits"].ids]) == {8, 9}
    crops = bundled._table().query("set == 'photo_crops'")
    grey = load_sample_image("flower.jpg") @ [0.299, 0.587, 0.114]
    for row, image in zip(crops.itertuples(), sets["photo_crops"].images[..., 0], strict=True):
        assert np.abs(grey[row.top : row.top + 8, row.left : row.left + 8] - image).max() <= 1


def test_sets_share_no_id_and_no_image(sets):
    assert len(np.unique(np.concatenate([image_set.ids for image_set in sets.values()]))) == sum(SIZES.values())
    pixels = {name: {image.tobytes() for image in image_set.images} for name, image_set in sets.items()}
    for name, size in SIZES.items():
        assert len(pixels[name]) == size
    for first, second in itertools.combinations(SIZES, 2):
        assert not pixels[first] & pixels[second], (first, second)


def test_photographs_are_split_between_outliers_and_tests(table):
    sources = table.groupby("set")["source"].unique()
    assert list(sources["outliers"]) == ["china"]
    assert list(sources["photo_crops"]) == list(sources["photo_patches"]) == ["flower"]


def test_squares_are_distinct_and_inside_the_photograph(table):
    squares = table[table["source"] != "digits"]
    assert not squares.duplicated(["source", "top", "left", "size"]).any()
    assert (squares["top"] + squares["size"]).max() <= 427 and (squares["left"] + squares["size"]).max() <= 640
    assert squares[["top", "left"]].min().min() >= 0
    assert (squares[["top", "left"]].mod(squares["size"], axis=0) == 0).all(axis=None), "squares of a size overlap"
    assert set(squares.loc[squares["set"] == "photo_crops", "size"]) == {8}
    assert set(squares.loc[squares["set"] == "photo_patches", "size"]) == set(bundled.PATCH_SIZES)


def test_photographs_yield_no_near_duplicates(sets):
    names = ("photo_crops", "photo_patches", "outliers")
    images = np.concatenate([sets[name].images for name in names]).reshape(-1, 64).astype(np.float64)
    norms = np.square(images).sum(axis=1)
    squared = norms[:, None] + norms[None] - 2 * images @ images.T
    np.fill_diagonal(squared, np.inf)
    assert np.sqrt(squared.min() / 64) >= bundled.DISTANCE - 1e-6


def test_order_within_a_set_is_random(sets):
    np.testing.assert_allclose(np.bincount(sets["id_test"].first(200).labels), 25, atol=10)
    for image_set in sets.values():
        ranks = np.argsort(np.argsort(image_set.ids))
        assert abs(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1]) < 0.15


def test_build_gives_the_same_set_again(sets):
    again = bundled.build("outliers")
    np.testing.assert_array_equal(again.images, sets["outliers"].images)
    np.testing.assert_array_equal(again.ids, sets["outliers"].ids)


def test_unknown_set_is_refused():
    with pytest.raises(InputError, match=r"digits\.csv has no set 'svhn': choose from id_train"):
        bundled.build("svhn")


@pytest.mark.parametrize("content", [None, "", "set,sample\nid_train,1\n", "set,index\nid_train,one\n"])
def test_unusable_table_is_refused(tmp_path, monkeypatch, content):
    path = tmp_path / "digits.csv"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(bundled, "SPLITS", path)
    bundled._table.cache_clear()
    with pytest.raises(InputError, match=r"digits\.csv: .*Restore it"):
        bundled.build("id_train")
