"""Which image sets a config names, whether they can be had, and which files they are made of. Imports no torch."""

from pathlib import Path

from oodcert.data.noise_sets import NOISE
from oodcert.data.registry import entry_of
from oodcert.errors import InputError

BUNDLED = {  # name and split -> set of oodcert.data.bundled
    ("digits", "train"): "id_train",
    ("digits", "test"): "id_test",
    ("photographs", "train"): "outliers",
    **{(name, "test"): name for name in ("held_out_digits", "photo_crops", "photo_patches")},
}
DOWNLOADS = Path("data/downloads")


def available(config):
    """The config with `data.ood` cut to the sets that can be had, and `data.unavailable`, name -> why, completed.

    With a mirror (`data_mirror`) nothing is downloaded: what neither it nor the downloads hold can't be had. Raises
    InputError on an unknown set, on ID images or outliers that can't be had, where nothing of data.ood is left, and on
    sets that JPEG left its marks on beside others, unless data.jpeg_quality makes them alike.
    """
    data, mirror = config["data"], config["data_mirror"]
    for name, split in _training(data):
        why = _missing(name, split, data, mirror)
        if why:
            raise InputError(f"The {split} images of {name!r}, which everything needs, can't be had: {why}.")
    missing = {name: data["unavailable"].get(name) or _missing(name, "test", data, mirror) for name in data["ood"]}
    unavailable = {name: why for name, why in missing.items() if why}
    ood = [name for name in data["ood"] if name not in unavailable]
    if not ood:
        raise InputError(f"No set of data.ood can be had: {'; '.join(f'{n}: {why}' for n, why in missing.items())}.")
    stored = {encoding(*one, config) for one in named({**data, "ood": ood})}
    if len(stored) > 1 and data["jpeg_quality"] is None:
        raise InputError(
            f"The image sets were stored differently ({', '.join(sorted(stored))}), which a detector can tell: "
            "set data.jpeg_quality to 75, so that all of them go through JPEG alike."
        )
    return {**config, "data": {**data, "ood": ood, "unavailable": unavailable}}


def training_files(config):
    """Files that the ID sets and the outliers are read from, in the mirror or among the downloads."""
    return _files(_training(config["data"]), config)


def ood_files(config):
    """The same of the OOD sets."""
    return _files([(name, "test") for name in config["data"]["ood"]], config)


def source_file(entry, mirror):
    """The file an Entry's images are read from: the mirror's if there is one, else the download."""
    return Path(mirror) / entry.mirror if mirror and entry.mirror else DOWNLOADS / entry.file


def own_path(path, split):
    """One's own images: a folder of images or an npz file, or a folder with a train.npz and a test.npz."""
    divided = Path(path) / f"{split}.npz"
    return divided if divided.exists() else Path(path)


def encoding(name, split, config):
    """How the pixels of a set were stored before they came here: "lossless", or "jpeg75"."""
    if name in config["data"]["own"] or bundled(name, split):
        return "lossless"
    entry, mirror = entry_of(name, split), config["data_mirror"]
    return entry.mirror_encoding if mirror and entry.mirror else "lossless"


def bundled(name, split):
    """Whether a set needs no file: digits, photographs and noise."""
    return (name, split) in BUNDLED or (name in NOISE and split == "test")


def named(data):
    """(name, split) of all sets that a config's `data` names."""
    return [*_training(data), *((name, "test") for name in data["ood"])]


def _training(data):
    return [(data["id"], "train"), (data["id"], "test"), (data["outliers"], "train")]


def _files(sets, config):
    own, files = config["data"]["own"], []
    for name, split in sets:
        if name in own:
            files.append(own_path(own[name], split))
        elif not bundled(name, split):
            files.append(source_file(entry_of(name, split), config["data_mirror"]))
    return [*dict.fromkeys(map(str, files))]


def _missing(name, split, data, mirror):
    """Why a set can't be had, or None."""
    if name in data["own"]:
        return None if Path(data["own"][name]).exists() else f"data.own: {data['own'][name]} does not exist"
    if bundled(name, split):
        return None
    entry = entry_of(name, split)
    if source_file(entry, mirror).exists():
        return None
    if mirror:
        return f"the mirror has no {entry.mirror or 'file of it'}"
    return None if entry.status == "available" else entry.note
