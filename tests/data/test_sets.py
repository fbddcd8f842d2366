"""The image sets of a profile: bundled ones, a mirror's, and user-supplied ones; made alike and fairly cut."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT
from oodcert.config.availability import available
from oodcert.config.load import check_config, read_configs
from oodcert.config.models import Config
from oodcert.data import sets, sources
from oodcert.data.imageset import ImageSet
from oodcert.data.registry import registry
from oodcert.data.settings import DataSettings
from oodcert.data.sizes import check_counts
from oodcert.data.sources import DOWNLOADS
from oodcert.errors import InputError
from oodcert.runtime.files import sha256

CONFIG = read_configs([ROOT / "config" / "config.yaml"])
OOD = CONFIG.data.ood


def training_sets(config: Config) -> dict[str, ImageSet]:
    return sets.id_sets(config.data, config.data_mirror) | sets.outlier_sets(config.data, config.data_mirror)


def ood_sets(config: Config) -> dict[str, ImageSet]:
    return sets.ood_sets(config.data, config.data_mirror)


def file_names(files_of: Callable[[DataSettings, str | None], list[str]], config: Config) -> list[str]:
    return [Path(file).name for file in files_of(config.data, config.data_mirror)]


def changed(**changes: Any) -> Config:
    """The digits config with other values in `data`, not checked."""
    return CONFIG.changed(data=changes)


def checked(**changes: Any) -> Config:
    """The same, checked."""
    values = CONFIG.as_json()
    return check_config(values | {"data": values["data"] | changes})


def test_the_digits_sets():
    known, ood = training_sets(CONFIG), ood_sets(CONFIG)
    assert {name: len(image_set) for name, image_set in known.items()} == {
        "id_train": 1043,
        "id_test": 400,
        "outliers": 2000,
    }
    assert {name: len(image_set) for name, image_set in ood.items()} == dict.fromkeys(OOD, 100)
    assert all((image_set.labels == -1).all() for image_set in (*ood.values(), known["outliers"]))
    assert set(known["id_test"].labels) == set(range(8))


def test_a_longer_test_set_begins_with_the_shorter():
    short, long = (ood_sets(changed(test_images=n)) for n in (20, 60))
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
        training_sets(changed(**changes)), ood_sets(changed(**changes))
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A config whose ID set, outliers and an OOD set are files of a mirror, 8x8 pixels each."""
    rng = np.random.default_rng(0)

    def write(name, n, classes, **arrays):
        path = tmp_path / f"{name}.npz"
        images, labels = rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8), np.arange(n) % classes
        np.savez(path, images=images, labels=labels, **arrays)
        return path

    files = {
        ("cifar10", "train"): write("train", 40, 4),
        ("cifar10", "test"): write("test", 20, 4),
        ("tiny_imagenet", "train"): write("outliers", 30, 3, wnids=np.array(["n01", "n02123045", "n03"])),
        ("svhn", "test"): write("svhn", 12, 4, index=np.arange(100, 112)),
    }
    entries = {
        key: replace(
            registry()[key],
            mirror=path.name,
            mirror_sha256=sha256(path),
            mirror_encoding="lossless",
            status="available",
        )
        for key, path in files.items()
    }
    monkeypatch.setattr(sources, "entry_of", lambda name, split: entries[name, split])
    monkeypatch.setattr(sets, "entry_of", lambda name, split: entries[name, split])
    changes = {"id": "cifar10", "outliers": "tiny_imagenet", "ood": ("svhn", "uniform_noise"), "test_images": 5}
    shaped = changed(**changes, num_classes=4, image_shape=(3, 8, 8))
    return shaped.changed(data_mirror=str(tmp_path)), entries


def test_the_sets_of_a_mirror(mirror, tmp_path):
    settings, _ = mirror
    assert file_names(sources.id_files, settings) == ["train.npz", "test.npz"]
    assert file_names(sources.outlier_files, settings) == ["outliers.npz"]
    assert file_names(sources.ood_files, settings) == ["svhn.npz"]
    known, ood = training_sets(settings), ood_sets(settings)
    assert len(known["id_train"]) == 40 and len(known["id_test"]) == 20
    assert len(known["outliers"]) == 20, "one of three classes is CIFAR-10's cat"
    assert (known["outliers"].labels == -1).all() and known["outliers"].name == "outliers"
    assert set(ood["svhn"].ids) <= set(range(100, 112)) and (ood["svhn"].labels == -1).all()
    with np.load(tmp_path / "train.npz") as source:
        ids = known["id_train"].ids
        np.testing.assert_array_equal(known["id_train"].images, source["images"][ids])
        np.testing.assert_array_equal(known["id_train"].labels, source["labels"][ids])
    assert not np.array_equal(ids, np.arange(40)), "the order is random"


def test_user_supplied_images_join(tmp_path):
    folder, rng = tmp_path / "mine", np.random.default_rng(1)
    folder.mkdir()
    for index in range(6):
        Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    np.savez(tmp_path / "grey.npz", images=rng.integers(0, 256, (7, 8, 8, 1), dtype=np.uint8))
    own = {"mine": str(folder), "grey": str(tmp_path / "grey.npz")}
    few = changed(ood=("grey", "photo_crops"), own={"grey": own["grey"]}, test_images=4)
    grey = check_config(few.changed(evaluation={"authors_code": None}))
    assert sources.ood_files(grey.data, None) == [own["grey"]]
    assert len(ood_sets(available(grey))["grey"]) == 4
    colour = changed(ood=("mine",), own=own, test_images=5, image_shape=(3, 8, 8))
    images = ood_sets(colour)["mine"]
    assert images.images.shape == (5, 8, 8, 3) and images.name == "mine" and set(images.ids) <= set(range(6))
    with pytest.raises(InputError, match=r"\[3, 8, 8\]"):
        ood_sets(changed(ood=("mine",), own=own, test_images=5))


def test_a_user_supplied_id_set(tmp_path):
    rng = np.random.default_rng(2)
    for split, n in (("train", 24), ("test", 8)):
        images = rng.integers(0, 256, (n, 8, 8, 1), dtype=np.uint8)
        np.savez(tmp_path / f"{split}.npz", images=images, labels=np.arange(n) % 4)
    settings = checked(id="mine", own={"mine": str(tmp_path)}, num_classes=4)
    assert file_names(sources.id_files, settings) == ["train.npz", "test.npz"]
    known = training_sets(available(settings))
    assert len(known["id_train"]) == 24 and set(known["id_test"].labels) == {0, 1, 2, 3}


def test_all_sets_go_through_jpeg_alike(mirror):
    settings, entries = mirror
    entries["svhn", "test"] = replace(entries["svhn", "test"], mirror_encoding="jpeg75")
    with pytest.raises(InputError, match=r"set data\.jpeg_quality"):
        available(settings)
    plain = ood_sets(settings)
    settings = settings.changed(data={"jpeg_quality": 75})
    coded = ood_sets(available(settings))
    np.testing.assert_array_equal(coded["svhn"].images, plain["svhn"].images)
    assert (coded["uniform_noise"].images != plain["uniform_noise"].images).any()
    buffer = BytesIO()
    Image.fromarray(plain["uniform_noise"].images[0]).save(buffer, "JPEG", quality=75)
    np.testing.assert_array_equal(coded["uniform_noise"].images[0], np.asarray(Image.open(buffer)))
    assert training_sets(settings)["id_train"].images.shape == (40, 8, 8, 3)


def test_what_a_mirror_lacks_is_unavailable(mirror):
    settings, entries = mirror
    entries["textures", "test"] = replace(entries["svhn", "test"], mirror="absent.npz", file="absent.tar")
    settings = settings.changed(data={"ood": ("svhn", "textures")})
    cut = available(settings).data
    assert cut.ood == ("svhn",)
    assert "absent.npz" in cut.unavailable["textures"]
    settings = settings.changed(data={"unavailable": {"svhn": "too many digits"}})
    with pytest.raises(InputError, match="svhn: too many digits; textures: the mirror"):
        available(settings)
    entries["cifar10", "test"] = entries["textures", "test"]
    with pytest.raises(InputError, match="test images of 'cifar10', which everything needs"):
        available(settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"own": {"mine": "x"}}, "data.own.mine is not used"),
        ({"unavailable": {"svhn": "no"}}, "data.unavailable.svhn is not used"),
        ({"ood": ["svhn"], "own": {"svhn": "x"}}, "that name means something else already"),
        ({"ood": ["uniform_noise"], "own": {"uniform_noise": "x"}}, "that name means something else already"),
        ({"id": "cifar10", "ood": ["cifar10"]}, "name a set twice"),
        ({"accuracy_images": 99}, "data.accuracy_images = 99 is less than data.test_images = 100"),
        ({"ood": ["id_more"], "own": {"id_more": "x"}}, "that name means something else already"),
        ({"ood": ["average"], "own": {"average": "x"}}, "that name means something else already"),
        ({"outliers": "svhn"}, "no train images of a set 'svhn'"),
    ],
)
def test_names_that_mean_nothing_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        checked(**changes)


def test_an_id_set_needs_other_images_for_testing(tmp_path):
    np.savez(tmp_path / "mine.npz", images=np.zeros((8, 8, 8, 1), np.uint8), labels=np.arange(8) % 4)
    settings = checked(id="mine", own={"mine": str(tmp_path / "mine.npz")}, num_classes=4)
    with pytest.raises(InputError, match=r"own\.mine: as the ID set .* train\.npz and a test\.npz"):
        available(settings)


def test_id_test_images_need_labels(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "train.npz", images=images, labels=np.arange(8) % 4)
    np.savez(tmp_path / "test.npz", images=images)
    with pytest.raises(InputError, match="test images of 'mine' have no labels"):
        training_sets(changed(id="mine", own={"mine": str(tmp_path)}, num_classes=4))


def test_what_is_not_there_is_said_before_anything_runs(tmp_path):
    with pytest.raises(InputError, match=r"data\.own\.mine = 'nowhere' does not exist"):
        available(checked(ood=["mine"], own={"mine": "nowhere"}))
    np.savez(tmp_path / "few.npz", images=np.zeros((3, 8, 8, 1), np.uint8))
    few = checked(ood=["few"], own={"few": str(tmp_path / "few.npz")})
    with pytest.raises(InputError, match=r"data\.test_images = 100, but 'few' holds only 3"):
        check_counts(available(few).data, None)
    with pytest.raises(InputError, match=r"data\.accuracy_images = 401, but 'digits' holds only 400"):
        check_counts(changed(accuracy_images=401).data, None)


def test_a_download_serves_where_the_mirror_lacks_a_set(mirror, tmp_path, monkeypatch):
    settings, entries = mirror
    monkeypatch.chdir(tmp_path)
    entries["textures", "test"] = replace(registry()["textures", "test"], mirror="absent.npz")
    settings = settings.changed(data={"ood": ("svhn", "textures")})
    DOWNLOADS.mkdir(parents=True)
    assert available(settings).data.ood == ("svhn",), "a folder of downloads is no file"
    (DOWNLOADS / entries["textures", "test"].file).touch()
    cut = available(settings).data
    assert cut.ood == ("svhn", "textures")
    assert sources.ood_files(cut, settings.data_mirror)[1] == str(DOWNLOADS / entries["textures", "test"].file)


def test_images_that_went_through_another_jpeg_are_refused(mirror):
    settings, entries = mirror
    entries["svhn", "test"] = replace(entries["svhn", "test"], mirror_encoding="jpeg75")
    settings = settings.changed(data={"jpeg_quality": 60})
    with pytest.raises(InputError, match=r"set data\.jpeg_quality to 75"):
        available(settings)


def test_outliers_are_needed_for_training_alone(mirror):
    settings, entries = mirror
    entries["tiny_imagenet", "train"] = replace(entries["tiny_imagenet", "train"], mirror="absent.npz", file="")
    assert available(settings, trains=False).data.ood == settings.data.ood
    with pytest.raises(InputError, match="train images of 'tiny_imagenet'"):
        available(settings)
