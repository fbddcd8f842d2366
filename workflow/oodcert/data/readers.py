"""Image sets out of their official downloads, and out of a mirror."""

import io
from pathlib import Path

import numpy as np

from oodcert.data.archives import members
from oodcert.data.download import verify
from oodcert.data.folder import is_image, read_image, resize
from oodcert.data.imageset import ImageSet
from oodcert.data.npz import read_arrays
from oodcert.data.pickles import load_pickle
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


def read_set(entry, folder, size):
    """The whole split of an official download: an ImageSet of uint8 images [N, size, size, 3], named as the entry.

    entry: see `registry`. folder: of the downloads, which the file must be in; its bytes and checksums are verified
    first. Images of another size are resized to a shorter side of `size` pixels (bilinear, antialiased), and their
    centre is cut out. ids: the position in the official order, 0 to N - 1; of archives of image files, the order of
    their sorted paths. labels: CIFAR's (of CIFAR-100 the fine ones), SVHN's digits, of the textures (all 5640 images,
    the union of the three partitions of any of their splits) the categories in alphabetical order, of Tiny ImageNet's
    training images the classes in the order of its wnids.txt; otherwise -1. Nothing is unpacked to disk.

    Raises InputError where the file is missing, is not the published one, or does not hold what it should.
    """
    path = _verified(entry, folder)
    images, labels = _READERS.get(entry.set, _images_without_labels)(path, entry, size)
    return ImageSet(entry.set, images, labels, np.arange(len(images)))


def set_classes(entry, folder):
    """The names of the labels of `read_set`, in their order: of Tiny ImageNet wnids, of the ODIN sets and such none."""
    path = _verified(entry, folder)
    if entry.set in CIFAR_NAMES:
        member, key = CIFAR_NAMES[entry.set]
        return tuple(_entry_of(load_pickle(_member(path, member), f"{path}: {member}"), key, path))
    if entry.set == "svhn":
        return tuple("0123456789")
    if entry.set == "textures":
        return tuple(sorted({name.parent.name for name, _ in members(path, _is_texture)}))
    return _wnids(path) if entry.set == "tiny_imagenet" else ()


def read_mirror(entry, mirror):
    """The entry's images in a mirror, as the ImageSet that `ImageSet.load` reads there, named as the entry.

    mirror: its folder. ids: the file's array `index` where it has one, otherwise as `ImageSet.load` gives them: the
    position in the file, which need not be that in the official set. Raises InputError where the file is missing, is
    not the one of the registry's mirror_sha256, or can't be read.
    """
    path = _mirrored(entry, mirror)
    images = ImageSet.load(path)
    index = _array(path, "index")
    return ImageSet(entry.set, images.images, images.labels, images.ids if index is None else index)


def mirror_classes(entry, mirror):
    """The names of the labels of `read_mirror`: the file's `wnids` or else its `class_names`; without either ()."""
    path = _mirrored(entry, mirror)
    names = [_array(path, key) for key in ("wnids", "class_names")]
    return next((tuple(map(str, array)) for array in names if array is not None), ())


def _verified(entry, folder):
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


def _mirrored(entry, mirror):
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


def _array(path, key):
    """An array of an npz file that has been read before, or None."""
    return read_arrays(path, [key]).get(key)


def _cifar(path, entry, size):
    wanted = CIFAR_FILES[entry.set, entry.split]
    found = {str(name): data for name, data in members(path, lambda name: str(name) in wanted)}
    key = "labels" if entry.set == "cifar10" else "fine_labels"
    images, labels = [], []
    for name in wanted:
        if name not in found:
            raise _lacks(path, name)
        batch = load_pickle(found[name], f"{path}: {name}")
        rows = _entry_of(batch, "data", path)
        if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape[1:] != (3 * 32 * 32,):
            raise InputError(f"{path}: the data of {name} are not uint8 [N, 3072]. Delete the file and fetch it again.")
        images.append(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(_entry_of(batch, key, path))
    try:
        labels = np.concatenate([np.array(numbers, np.int64) for numbers in labels])
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path}: its {key} are not numbers ({error}). Delete the file and fetch it again.") from error
    return _resized(np.concatenate(images), size), labels


def _svhn(path, entry, size):
    from scipy.io import loadmat

    try:
        arrays = loadmat(path, variable_names=["X", "y"])
        images, labels = arrays["X"].transpose(3, 0, 1, 2), arrays["y"].astype(np.int64).ravel()
    except Exception as error:  # scipy's reader raises many kinds
        raise InputError(f"{path}: not the matlab file of SVHN ({error!r}). Delete it and fetch it again.") from error
    return _resized(images, size), labels % 10  # SVHN's 10 is the digit 0


def _textures(path, entry, size):
    found = _images(path, size, _is_texture)
    categories = sorted({name.parent.name for name in found})
    return np.stack(list(found.values())), np.array([categories.index(name.parent.name) for name in found])


def _tiny_imagenet(path, entry, size):
    number = {wnid: index for index, wnid in enumerate(_wnids(path))}
    found = _images(path, size, lambda name: is_image(name) and name.match("tiny-imagenet-200/train/*/images/*"))
    strange = {name.parts[2] for name in found} - number.keys()
    if strange:
        raise InputError(f"{path}: {min(strange)} is not in its wnids.txt. Delete the file and fetch it again.")
    return np.stack(list(found.values())), np.array([number[name.parts[2]] for name in found])


def _random_images(path, entry, size):
    try:
        images = np.lib.format.open_memmap(path, mode="r")
        labels = np.full(len(images), -1)
    except Exception as error:  # numpy raises many kinds on broken files
        raise InputError(f"{path}: not a readable npy file ({error}). Delete it and fetch it again.") from error
    return _resized(images, size), labels


def _images_without_labels(path, entry, size):
    found = _images(path, size)
    return np.stack(list(found.values())), np.full(len(found), -1)


_READERS = {
    "cifar10": _cifar,
    "cifar100": _cifar,
    "svhn": _svhn,
    "textures": _textures,
    "tiny_imagenet": _tiny_imagenet,
    "random_images": _random_images,
}


def _images(path, size, wanted=is_image):
    """{name: uint8 [size, size, 3]} of the wanted image files in an archive, sorted by their paths."""
    found = {name: read_image(f"{path}: {name}", size, io.BytesIO(data)) for name, data in members(path, wanted)}
    if not found:
        raise _lacks(path, "images")
    return dict(sorted(found.items(), key=lambda item: item[0].as_posix()))


def _is_texture(name):
    return is_image(name) and name.match("dtd/images/*/*")


def _resized(images, size):
    """Images of that size, and arrays that are no images (which ImageSet refuses), as they are; others resized."""
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[1:3] == (size, size):
        return images
    return np.stack([resize(image, size) for image in images])


def _wnids(path):
    return tuple(_member(path, WNIDS).decode().split())


def _member(path, wanted):
    for _, data in members(path, lambda name: str(name) == wanted):
        return data
    raise _lacks(path, wanted)


def _entry_of(record, key, path):
    if not isinstance(record, dict) or key not in record:
        raise _lacks(path, key)
    return record[key]


def _lacks(path, what):
    return InputError(f"{path}: there are no {what} in it. Delete the file and fetch it again.")
