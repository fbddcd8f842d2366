"""Which image sets a config names, whether they are available, and which files they are read from. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from oodcert import paths
from oodcert.data.listing import image_files
from oodcert.data.noise_sets import NOISE
from oodcert.data.registry import Entry, entry_of
from oodcert.data.settings import DataSettings
from oodcert.errors import InputError
from oodcert.runtime.files import sha256

BUNDLED = {  # name and split -> set of oodcert.data.bundled
    ("digits", "train"): "id_train",
    ("digits", "test"): "id_test",
    ("photographs", "train"): "outliers",
    **{(name, "test"): name for name in ("held_out_digits", "photo_crops", "photo_patches")},
}
SPLITS = paths.DATA_TABLES / "splits" / "digits.csv"
DOWNLOADS = Path("data/downloads")
RESERVED = ("id", "id_train", "id_test", "id_more", "outliers", "average")  # names that mean something else in results


def id_files(data: DataSettings, mirror: str | None) -> list[str]:
    """Paths of the files that the ID sets are read from, in the mirror or among the downloads."""
    return _files(training_sets(data)[:2], data, mirror)


def outlier_files(data: DataSettings, mirror: str | None) -> list[str]:
    """Paths of the files that the outliers are read from."""
    return _files(training_sets(data)[2:], data, mirror)


def ood_files(data: DataSettings, mirror: str | None) -> list[str]:
    """Paths of the files that the OOD sets are read from."""
    return _files([(name, "test") for name in data.ood], data, mirror)


def mirror_file(entry: Entry, mirror: str | Path | None) -> Path | None:
    """The file of the mirror that holds the entry's images; None if there is none."""
    path = Path(mirror) / entry.mirror if mirror and entry.mirror else None
    return path if path and path.is_file() else None


def in_mirror(entry: Entry, mirror: str | Path | None) -> bool:
    """Whether the images of a registry entry are read from the mirror.

    Args:
        entry: the set and split.
        mirror: folder of the mirror; None: there is none.

    Returns:
        Whether the mirror holds the file that the entry names.
    """
    return mirror_file(entry, mirror) is not None


def source_file(entry: Entry, mirror: str | Path | None) -> Path:
    """The file that an entry's images are read from: the mirror's if it is there, else the download."""
    return mirror_file(entry, mirror) or DOWNLOADS / entry.file


def user_path(path: str | Path, split: str) -> Path:
    """The folder or npz file of one split of a user-supplied set.

    A folder that holds a SPLIT.npz (train.npz, test.npz) stands for that file. Any other path stands for itself.

    Args:
        path: a folder or an npz file, as data.own has it.
        split: "train" or "test".

    Returns:
        The path to read the images from.
    """
    divided = Path(path) / f"{split}.npz"
    return divided if divided.exists() else Path(path)


def encoding(name: str, split: str, data: DataSettings, mirror: str | None) -> str:
    """How the pixels of a set were stored before they came here.

    Args:
        name: of the set.
        split: "train" or "test".
        data: the config's data settings.
        mirror: folder of the mirror; None: there is none.

    Returns:
        "lossless" or "jpeg75".
    """
    if name in data.own or bundled(name, split):
        return "lossless"
    entry = entry_of(name, split)
    return entry.mirror_encoding if in_mirror(entry, mirror) else "lossless"


def bundled(name: str, split: str) -> bool:
    """Whether a set needs no file: digits, photographs and noise."""
    return (name, split) in BUNDLED or (name in NOISE and split == "test")


def named(data: DataSettings) -> list[tuple[str, str]]:
    """(name, split) of all sets that a config's `data` names."""
    return [*training_sets(data), *((name, "test") for name in data.ood)]


def training_sets(data: DataSettings) -> list[tuple[str, str]]:
    """(name, split) of the ID training set, the ID test set and the outliers."""
    return [(data.id, "train"), (data.id, "test"), (data.outliers, "train")]


def folders_sha256(data: DataSettings, sets: Iterable[str]) -> dict[str, str]:
    """Checksums of user-supplied folders of images: of every image's name and bytes, also deep in the folder.

    Args:
        data: the config's `data`.
        sets: names of sets; those that are no folder of images are left out.

    Returns:
        Name -> checksum.
    """
    folders = {name: Path(data.own[name]) for name in sets if name in data.own and Path(data.own[name]).is_dir()}
    checksums = {}
    for name, folder in folders.items():
        try:
            paths = image_files(folder)
        except InputError:  # the job that reads the folder says what is wrong with it
            paths = []
        content = [(path.relative_to(folder).as_posix(), sha256(path)) for path in paths]
        checksums[name] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return checksums


def _files(sets: Iterable[tuple[str, str]], data: DataSettings, mirror: str | None) -> list[str]:
    """Each file once, in the order of the sets."""
    files: list[Path] = []
    for name, split in sets:
        if name in data.own:
            files.append(user_path(data.own[name], split))
        elif not bundled(name, split):
            files.append(source_file(entry_of(name, split), mirror))
    return [*dict.fromkeys(map(str, files))]


def path_exists(path: str | Path) -> bool:
    """Whether a file or folder is there; False also for a name that is too long."""
    try:
        return Path(path).exists()
    except OSError:
        return False


def missing(name: str, split: str, data: DataSettings, mirror: str | None) -> str | None:
    """Why a set is unavailable.

    Args:
        name: of the set.
        split: "train" or "test".
        data: the config's data settings.
        mirror: folder of the mirror; None: there is none.

    Returns:
        The reason in a few words; None if the set is available.

    Raises:
        InputError: if the set is unknown.
    """
    if name in data.own or bundled(name, split):
        return None
    entry = entry_of(name, split)
    if in_mirror(entry, mirror) or (entry.file and (DOWNLOADS / entry.file).is_file()):
        return None
    if mirror:
        return f"the mirror has no {entry.mirror or 'file of it'}"
    return None if entry.status == "available" else entry.note
