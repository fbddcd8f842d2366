"""Image sets out of their official downloads, and out of a mirror."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodcert.data.archives import members
from oodcert.data.download import verify
from oodcert.data.image_files import read_image, resize
from oodcert.data.imageset import ImageSet
from oodcert.data.listing import is_image
from oodcert.data.npz import read_arrays
from oodcert.data.pickles import load_pickle
from oodcert.data.registry import Entry
from oodcert.errors import InputError
from oodcert.runtime.files import sha256

CIFAR_FILES = {
    ("cifar10", "train"): [f"cifar-10-batches-py/data_batch_{number}" for number in range(1, 6)],
    ("cifar10", "test"): ["cifar-10-batches-py/test_batch"],
    ("cifar100", "train"): ["cifar-100-python/train"],
    ("cifar100", "test"): ["cifar-100-python/test"],
}
CIFAR_NAMES = {
    "cifar10": ("cifar-10-batches-py/batches.meta", "label_names"),
    "cifar100": ("cifar-100-python/meta", "fine_label_names"),
}
WNIDS = "tiny-imagenet-200/wnids.txt"


def read_set(entry: Entry, folder: str | Path, size: int) -> ImageSet:
    """The whole split of an official download. Nothing is unpacked to disk.

    Args:
        entry: the set and split, of the registry.
        folder: of the downloads. It must hold the entry's file, whose size and checksums are verified first.
        size: pixels. Images of another size are resized to a shorter side of `size` (bilinear, antialiased), and their
            centre is cut out.

    Returns:
        An ImageSet of uint8 [N, size, size, 3], named as the entry. Its ids are positions in the official order, 0 to
        N - 1; of archives of image files, in the order of the sorted paths. Its labels are:

        - CIFAR: the classes, of CIFAR-100 the fine ones;
        - SVHN: the digits;
        - textures (all 5640 images, the union of the three partitions of any of their splits): the categories in
          alphabetical order;
        - Tiny ImageNet's training images: the classes in the order of its wnids.txt;
        - other sets: -1.

    Raises:
        InputError: if the file is missing, has other checksums than the registry, or does not hold what it should.
    """
    path = _verified(entry, folder)
    images, labels = _READERS.get(entry.set, _images_without_labels)(path, entry, size)
    return ImageSet(entry.set, images, labels, np.arange(len(images)))


def set_classes(entry: Entry, folder: str | Path) -> tuple[str, ...]:
    """The names of the labels of `read_set`, in their order.

    Args:
        entry: the set and split, of the registry.
        folder: of the downloads.

    Returns:
        Names of classes, of Tiny ImageNet wnids; () for sets without labels.

    Raises:
        InputError: as `read_set`.
    """
    path = _verified(entry, folder)
    if entry.set in CIFAR_NAMES:
        member, key = CIFAR_NAMES[entry.set]
        return tuple(_entry_of(load_pickle(_member(path, member), f"{path}: {member}"), key, path))
    if entry.set == "svhn":
        return tuple("0123456789")
    if entry.set == "textures":
        return tuple(sorted({name.parent.name for name, _ in members(path, _is_texture)}))
    return _wnids(path) if entry.set == "tiny_imagenet" else ()


def read_mirror(entry: Entry, mirror: str | Path) -> ImageSet:
    """The images of a set and split in a mirror, as `ImageSet.load` reads them.

    Args:
        entry: the set and split, of the registry.
        mirror: folder of the mirror.

    Returns:
        The ImageSet, named as the entry. Its ids are the file's array `index` if it has one. Otherwise they are as
        `ImageSet.load` gives them: positions in the file, which may differ from those in the official set.

    Raises:
        InputError: if the file is missing, unreadable, or has another checksum than the registry's mirror_sha256.
    """
    path = _mirrored(entry, mirror)
    images = ImageSet.load(path)
    index = _array(path, "index")
    return ImageSet(entry.set, images.images, images.labels, images.ids if index is None else index)


def mirror_classes(entry: Entry, mirror: str | Path) -> tuple[str, ...]:
    """The names of the labels of `read_mirror`.

    Args:
        entry: the set and split, of the registry.
        mirror: folder of the mirror.

    Returns:
        The file's array `wnids`, or else its `class_names`; () if it has neither.

    Raises:
        InputError: as `read_mirror`.
    """
    path = _mirrored(entry, mirror)
    names = [_array(path, key) for key in ("wnids", "class_names")]
    return next((tuple(map(str, array)) for array in names if array is not None), ())


def _verified(entry: Entry, folder: str | Path) -> Path:
    if not entry.file:
        raise InputError(
            f"The {entry.split} images of {entry.set} can't be downloaded: {entry.note}. See docs/data.md."
        )
    path = Path(folder) / entry.file
    if not path.is_file():
        raise InputError(
            f"{path}: the {entry.split} images of {entry.set} are not there. Fetch them (`oodcert data fetch "
            f"{entry.set}`), put the file there yourself, or use a mirror (--config data_mirror=DIR)."
        )
    verify(path, entry)
    return path


def _mirrored(entry: Entry, mirror: str | Path) -> Path:
    path = Path(mirror) / entry.mirror
    if not entry.mirror or not path.is_file():
        raise InputError(
            f"{path}: the mirror does not hold the {entry.split} images of {entry.set}. Correct data_mirror, or fetch "
            f"them (`oodcert data fetch {entry.set}`)."
        )
    if sha256(path) != entry.mirror_sha256:
        raise InputError(
            f"{path}: its sha256 is {sha256(path)}, not {entry.mirror_sha256} as in data/registry.csv. Copy the file "
            "again, or enter the new checksum there if you changed it on purpose."
        )
    return path


def _array(path: Path, key: str) -> NDArray[Any] | None:
    """An array of an npz file that has been read before, or None."""
    return read_arrays(path, [key]).get(key)


Read = tuple[NDArray[np.uint8], NDArray[np.int64]]  # images [N, size, size, 3] and labels [N]


def _cifar(path: Path, entry: Entry, size: int) -> Read:
    wanted = CIFAR_FILES[entry.set, entry.split]
    batches = {str(name): data for name, data in members(path, lambda name: str(name) in wanted)}
    key = "labels" if entry.set == "cifar10" else "fine_labels"
    images, labels = [], []
    for name in wanted:
        if name not in batches:
            raise _lacks(path, name)
        batch = load_pickle(batches[name], f"{path}: {name}")
        rows = _entry_of(batch, "data", path)
        if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape[1:] != (3 * 32 * 32,):
            raise InputError(f"{path}: the data of {name} are not uint8 [N, 3072]. Delete the file and fetch it again.")
        images.append(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(_entry_of(batch, key, path))
    try:
        classes = np.concatenate([np.array(numbers, np.int64) for numbers in labels])
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path}: its {key} are not numbers ({error}). Delete the file and fetch it again.") from error
    return _resized(np.concatenate(images), size), classes


def _svhn(path: Path, entry: Entry, size: int) -> Read:
    from scipy.io import loadmat

    try:
        arrays = loadmat(path, variable_names=["X", "y"])
        images, labels = arrays["X"].transpose(3, 0, 1, 2), arrays["y"].astype(np.int64).ravel()
    except Exception as error:  # scipy's reader raises many kinds
        raise InputError(f"{path}: not the matlab file of SVHN ({error!r}). Delete it and fetch it again.") from error
    return _resized(images, size), labels % 10  # SVHN's 10 is the digit 0


def _textures(path: Path, entry: Entry, size: int) -> Read:
    images = _images(path, size, _is_texture)
    categories = sorted({name.parent.name for name in images})
    return np.stack(list(images.values())), np.array([categories.index(name.parent.name) for name in images])


def _tiny_imagenet(path: Path, entry: Entry, size: int) -> Read:
    number = {wnid: index for index, wnid in enumerate(_wnids(path))}
    images = _images(path, size, lambda name: is_image(name) and name.match("tiny-imagenet-200/train/*/images/*"))
    unlisted = {name.parts[2] for name in images} - number.keys()
    if unlisted:
        raise InputError(f"{path}: {min(unlisted)} is not in its wnids.txt. Delete the file and fetch it again.")
    return np.stack(list(images.values())), np.array([number[name.parts[2]] for name in images])


def _random_images(path: Path, entry: Entry, size: int) -> Read:
    try:
        images = np.lib.format.open_memmap(path, mode="r")
        labels = np.full(len(images), -1)
    except Exception as error:  # numpy raises many kinds on broken files
        raise InputError(f"{path}: not a readable npy file ({error}). Delete it and fetch it again.") from error
    return _resized(images, size), labels


def _images_without_labels(path: Path, entry: Entry, size: int) -> Read:
    images = _images(path, size)
    return np.stack(list(images.values())), np.full(len(images), -1)


_READERS: dict[str, Callable[[Path, Entry, int], Read]] = {
    "cifar10": _cifar,
    "cifar100": _cifar,
    "svhn": _svhn,
    "textures": _textures,
    "tiny_imagenet": _tiny_imagenet,
    "random_images": _random_images,
}


def _images(
    path: Path, size: int, wanted: Callable[[PurePosixPath], bool] = is_image
) -> dict[PurePosixPath, NDArray[np.uint8]]:
    """{name: uint8 [size, size, 3]} of the wanted image files in an archive, sorted by their paths."""
    images = {
        name: read_image(f"{path}: {name}", (size, size), io.BytesIO(data)) for name, data in members(path, wanted)
    }
    if not images:
        raise _lacks(path, "images")
    return dict(sorted(images.items(), key=lambda item: item[0].as_posix()))


def _is_texture(name: PurePosixPath) -> bool:
    return is_image(name) and name.match("dtd/images/*/*")


def _resized(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Images of that size, and arrays that are no images (which ImageSet refuses), as they are; others resized."""
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[1:3] == (size, size):
        return images
    return np.stack([resize(image, (size, size)) for image in images])


def _wnids(path: Path) -> tuple[str, ...]:
    return tuple(_member(path, WNIDS).decode().split())


def _member(path: Path, wanted: str) -> bytes:
    for _, data in members(path, lambda name: str(name) == wanted):
        return data
    raise _lacks(path, wanted)


def _entry_of(record: Any, key: str, path: Path) -> Any:
    if not isinstance(record, dict) or key not in record:
        raise _lacks(path, key)
    return record[key]


def _lacks(path: Path, what: str) -> InputError:
    return InputError(f"{path}: there are no {what} in it. Delete the file and fetch it again.")
