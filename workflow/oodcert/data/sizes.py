"""How many images a set holds, without reading them."""

from __future__ import annotations

from pathlib import Path

from oodcert.data.listing import image_files
from oodcert.data.noise_sets import NOISE
from oodcert.data.npz import read_arrays
from oodcert.data.registry import entry_of
from oodcert.data.settings import DataSettings
from oodcert.data.sources import BUNDLED, SPLITS, source_file, user_path
from oodcert.errors import InputError

IMAGES = {  # as their authors publish them
    ("cifar10", "train"): 50_000,
    ("cifar10", "test"): 10_000,
    ("cifar100", "train"): 50_000,
    ("cifar100", "test"): 10_000,
    ("svhn", "train"): 73_257,
    ("svhn", "test"): 26_032,
    ("tiny_imagenet", "train"): 100_000,
    ("random_images", "train"): 300_000,
}


def image_count(name: str, split: str, data: DataSettings, mirror: str | None) -> int | None:
    """The number of images of one split of a set.

    Classes that are left out of outliers (data/overlaps.csv) are counted.

    Args:
        name: name of the set.
        split: "train" or "test".
        data: the config's `data`.
        mirror: the config's `data_mirror`.

    Returns:
        The images in the set's file if it is here, else as many as its authors publish (IMAGES). None: unknown.
    """
    if (name, split) in BUNDLED:
        import pandas as pd

        return int((pd.read_csv(SPLITS, usecols=["set"])["set"] == BUNDLED[name, split]).sum())
    if name in NOISE:
        return data.test_images
    is_users = name in data.own
    path = user_path(data.own[name], split) if is_users else source_file(entry_of(name, split), mirror)
    if is_users and path.is_dir():
        return len(image_files(path))
    if path.suffix == ".npz" and path.exists():
        return _length(path)
    return IMAGES.get((name, split))


def check_counts(data: DataSettings, mirror: str | None) -> None:
    """Checks that no set is known to hold fewer images than the evaluations use.

    Args:
        data: the config's data settings.
        mirror: folder of the mirror; None: there is none.

    Raises:
        InputError: naming the config key, the set and its number of images.
    """
    wanted = [(data.id, "accuracy_images"), *((name, "test_images") for name in data.ood)]
    for name, key in wanted:
        count = image_count(name, "test", data, mirror)
        if count is not None and count < getattr(data, key):
            raise InputError(
                f"Config key data.{key} = {getattr(data, key)}, but {name!r} holds only {count} test images: lower it."
            )


def _length(path: Path) -> int:
    """Images in an npz file, from the smallest of its arrays that says so."""
    for key in ("labels", "offsets", "images"):
        for array in read_arrays(path, [key]).values():
            if array.ndim:
                return len(array) - (key == "offsets")
    raise InputError(f"{path}: there are no images in it. Store uint8 `images` [N, H, W, C].")
