"""Which image sets a config names, whether they can be had, and which files they are made of. Imports no torch."""

from pathlib import Path

from oodcert import paths
from oodcert.data.noise_sets import NOISE
from oodcert.data.registry import entry_of

BUNDLED = {  # name and split -> set of oodcert.data.bundled
    ("digits", "train"): "id_train",
    ("digits", "test"): "id_test",
    ("photographs", "train"): "outliers",
    **{(name, "test"): name for name in ("held_out_digits", "photo_crops", "photo_patches")},
}
SPLITS = paths.DATA_TABLES / "splits" / "digits.csv"
DOWNLOADS = Path("data/downloads")
RESERVED = ("id", "id_train", "id_test", "id_more", "outliers", "average")  # names that mean something else in results


def id_files(config):
    """Files that the ID sets are read from, in the mirror or among the downloads."""
    return _files(training_sets(config["data"])[:2], config)


def outlier_files(config):
    """The same of the outliers."""
    return _files(training_sets(config["data"])[2:], config)


def ood_files(config):
    """The same of the OOD sets."""
    return _files([(name, "test") for name in config["data"]["ood"]], config)


def in_mirror(entry, mirror):
    """Whether an Entry's images are read from the mirror: a path, or None for none."""
    return bool(mirror and entry.mirror) and (Path(mirror) / entry.mirror).is_file()


def source_file(entry, mirror):
    """The file an Entry's images are read from: the mirror's if it is there, else the download."""
    return Path(mirror) / entry.mirror if in_mirror(entry, mirror) else DOWNLOADS / entry.file


def own_path(path, split):
    """One's own images: a folder of images or an npz file, or a folder with a train.npz and a test.npz."""
    divided = Path(path) / f"{split}.npz"
    return divided if divided.exists() else Path(path)


def encoding(name, split, config):
    """How the pixels of a set were stored before they came here: "lossless", or "jpeg75"."""
    if name in config["data"]["own"] or bundled(name, split):
        return "lossless"
    entry, mirror = entry_of(name, split), config["data_mirror"]
    return entry.mirror_encoding if in_mirror(entry, mirror) else "lossless"


def bundled(name, split):
    """Whether a set needs no file: digits, photographs and noise."""
    return (name, split) in BUNDLED or (name in NOISE and split == "test")


def named(data):
    """(name, split) of all sets that a config's `data` names."""
    return [*training_sets(data), *((name, "test") for name in data["ood"])]


def training_sets(data):
    return [(data["id"], "train"), (data["id"], "test"), (data["outliers"], "train")]


def _files(sets, config):
    own, files = config["data"]["own"], []
    for name, split in sets:
        if name in own:
            files.append(own_path(own[name], split))
        elif not bundled(name, split):
            files.append(source_file(entry_of(name, split), config["data_mirror"]))
    return [*dict.fromkeys(map(str, files))]


def path_exists(path):
    try:
        return Path(path).exists()
    except OSError:  # a name that is too long
        return False


def missing(name, split, data, mirror):
    """Why a set can't be had, or None."""
    if name in data["own"] or bundled(name, split):
        return None
    entry = entry_of(name, split)
    if in_mirror(entry, mirror) or (entry.file and (DOWNLOADS / entry.file).is_file()):
        return None
    if mirror:
        return f"the mirror has no {entry.mirror or 'file of it'}"
    return None if entry.status == "available" else entry.note
