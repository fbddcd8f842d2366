"""Image sets as their sources keep them, read whole."""

from pathlib import Path

import numpy as np

from oodcert.data.imageset import ImageSet
from oodcert.errors import InputError
from oodcert.files import sha256


def read_mirror(entry, mirror):
    """A split of a mirror: the ImageSet of its npz file, ids from `index` where there is one, else positions.

    Raises InputError where the file is not the one that the registry describes.
    """
    path = Path(mirror) / entry.mirror
    image_set = ImageSet.load(path)
    found = sha256(path)
    if found != entry.mirror_sha256:
        raise InputError(
            f"{path}: SHA-256 {found}, but data/registry.csv says {entry.mirror_sha256}. Copy the file again; "
            "a set of your own goes under data.own."
        )
    with np.load(path, allow_pickle=False) as archive:
        ids = archive.get("index", image_set.ids)
    return ImageSet(entry.set, image_set.images, image_set.labels, ids)


def mirror_classes(entry, mirror):
    """Names of a mirror's classes, by label: ImageNet's wnids where the file has them; [] where it has no names."""
    with np.load(Path(mirror) / entry.mirror, allow_pickle=False) as archive:
        key = next((key for key in ("wnids", "class_names") if key in archive), None)
        return archive[key].tolist() if key else []
