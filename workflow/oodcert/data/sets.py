"""The image sets of a profile: read, made alike, and cut to the images that are used.

Every set of the registry and every user-supplied one is put in a random order that never changes, so its first n images
are a fair sample whatever order its source has. A sample's id is its position in the source.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oodcert.data.bundled import build
from oodcert.data.folder import load_image_set
from oodcert.data.imageset import ImageSet
from oodcert.data.noise_sets import NOISE, noise_set
from oodcert.data.overlaps import overlapping
from oodcert.data.readers import mirror_classes, read_mirror, read_set, set_classes
from oodcert.data.registry import entry_of
from oodcert.data.settings import DataSettings
from oodcert.data.sources import BUNDLED, DOWNLOADS, encoding, in_mirror, user_path
from oodcert.data.synthetic_outliers import with_synthetic
from oodcert.errors import InputError
from oodcert.runtime.keyed_noise import derive_seed

NOISE_SEED = 0  # noise sets are test data like the others: they do not change with the config's seed
SYNTHETIC_SEED = 0


def id_sets(data: DataSettings, mirror: str | None) -> dict[str, ImageSet]:
    """The whole ID training set and ID test set.

    Args:
        data: the config's `data`.
        mirror: the config's `data_mirror`.

    Returns:
        {"id_train", "id_test"} -> ImageSet.

    Raises:
        InputError: on images that do not fit data.image_shape, and on labels other than 0 to data.num_classes - 1,
            each of which the training set must have.
    """
    train, test = (read(data.id, split, data, mirror).check(data.num_classes) for split in ("train", "test"))
    classes = np.unique(train.labels)
    if not np.array_equal(classes, np.arange(data.num_classes)):
        raise InputError(
            f"The class count disagrees: the training images of {data.id!r} have {len(classes)} classes, numbered "
            f"{classes[0]} to {classes[-1]}, but data.num_classes is {data.num_classes}. Correct one."
        )
    if test.labels.min() < 0:
        raise InputError(f"The test images of {data.id!r} have no labels: store them as `labels`, classes from 0.")
    return {"id_train": train, "id_test": test}


def outlier_sets(data: DataSettings, mirror: str | None) -> dict[str, ImageSet]:
    """All outliers but those of the ID set's classes (data/overlaps.csv), and synthetic ones behind them.

    Args:
        data: the config's `data`.
        mirror: the config's `data_mirror`.

    Returns:
        {"outliers": ImageSet}, all labels -1.

    Raises:
        InputError: on images that do not fit data.image_shape.
    """
    outliers = replace(read(data.outliers, "train", data, mirror), name="outliers")
    return {"outliers": with_synthetic(outliers, data.synthetic_outliers, SYNTHETIC_SEED)}


def ood_sets(data: DataSettings, mirror: str | None) -> dict[str, ImageSet]:
    """The first data.test_images images of every set of data.ood.

    Args:
        data: the config's `data`.
        mirror: the config's `data_mirror`.

    Returns:
        Name -> ImageSet, all labels -1.

    Raises:
        InputError: if a set has fewer images, or images of another shape than data.image_shape.
    """
    return {name: read(name, "test", data, mirror, data.test_images) for name in data.ood}


def read(name: str, split: str, data: DataSettings, mirror: str | None, count: int | None = None) -> ImageSet:
    """One split of an image set, at the config's size, and through JPEG if the config says so.

    Args:
        name: name of the set.
        split: "train" or "test".
        data: the config's `data`.
        mirror: the config's `data_mirror`.
        count: number of images, the first ones; None: all. A noise set needs a number.

    Returns:
        The ImageSet. Its labels are -1 unless it is the ID set.

    Raises:
        InputError: if the set is missing or damaged, has fewer images, or images of another shape.
    """
    image_set = _read(name, split, data, mirror, count)
    image_set = image_set if count is None else image_set.first(count)
    image_set.check(image_shape=data.image_shape)
    quality = data.jpeg_quality
    if quality is not None and encoding(name, split, data, mirror) != f"jpeg{quality}":
        image_set = replace(image_set, images=np.stack([_through_jpeg(image, quality) for image in image_set.images]))
    return image_set if name == data.id else replace(image_set, labels=np.full(len(image_set), -1, np.int64))


def _read(name: str, split: str, data: DataSettings, mirror: str | None, count: int | None) -> ImageSet:
    """The whole set, in its fair order; of noise, the first `count` images."""
    if name in data.own:
        return _shuffled(_user_supplied(name, user_path(data.own[name], split), data.image_shape), split)
    if name in NOISE:
        assert count is not None, "noise sets have no end"
        return noise_set(name.removesuffix("_noise"), count, data.image_shape, NOISE_SEED)
    if (name, split) in BUNDLED:
        return build(BUNDLED[name, split])
    entry, size = entry_of(name, split), data.image_shape[1]
    folder = mirror if mirror and in_mirror(entry, mirror) else None
    image_set = read_mirror(entry, folder) if folder else read_set(entry, DOWNLOADS, size)
    if name == data.outliers:
        classes = mirror_classes(entry, folder) if folder else set_classes(entry, DOWNLOADS)
        left_out = overlapping(name, data.id)
        shared = [label for label, class_name in enumerate(classes) if class_name in left_out]
        image_set = image_set.chosen(~np.isin(image_set.labels, shared))
    return _shuffled(image_set, split)


def _user_supplied(name: str, path: Path, image_shape: Sequence[int]) -> ImageSet:
    """The whole set. The images of a folder are brought to that shape, those of an npz file must have it already."""
    channels, height, width = image_shape
    size = None if path.suffix == ".npz" else (height, width)
    return replace(load_image_set(path, size, channels=channels), name=name)


def _shuffled(image_set: ImageSet, split: str) -> ImageSet:
    generator = np.random.default_rng(derive_seed(0, "order", image_set.name, split))
    return image_set.chosen(generator.permutation(len(image_set)))


def _through_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """uint8 [H, W, C], compressed with Pillow's defaults (4:2:0 chroma) and decoded; C is 1 or 3."""
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer, formats=["JPEG"]) as decoded:
        return np.asarray(decoded).reshape(image.shape)
