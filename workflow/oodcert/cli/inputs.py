"""What the commands make of their arguments: a device, a detector, image sets, and whose results a folder holds."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oodcert.data.folder import load_image_set
from oodcert.data.imageset import ImageSet
from oodcert.errors import InputError
from oodcert.models.detector import Detector
from oodcert.models.user_networks import load_network, load_object
from oodcert.models.weight_files import load_weights
from oodcert.runtime import torch_setup

PROBE = "probe_scores"  # key of the settings
ROUNDING = 1e-4  # of scores on the probe
RESERVED = ("average", "settings", "network")  # a row of the tables, a file beside the results, a key of the settings


def images_sha256(images: ImageSet) -> str:
    """SHA-256 of the ids and the floats of an image set."""
    floats = images.floats()
    header = f"{images.ids.tolist()} {floats.shape}".encode()
    return hashlib.sha256(header + floats.tobytes()).hexdigest()


def prepare_device(options: argparse.Namespace) -> str:
    """Fixes torch's algorithms and rounding; returns the device, "cpu" or "cuda", of --device."""
    try:
        return torch_setup.prepare_torch(options.device, warn_only=True)
    except torch_setup.NoGpuError as error:
        raise InputError(f"--device {options.device}: {error}") from error


def load_detector(options: argparse.Namespace, device: str) -> Detector:
    """The Detector of --network, --weights and --score, on the device."""
    network = load_network(options.network)
    if options.weights:
        load_weights(network, options.weights)
    score = load_object(options.score) if ":" in options.score else options.score
    return Detector(network.to(device), score)


def named_paths(options: argparse.Namespace) -> dict[str, Path]:
    """The paths of --id and --ood by the names of their sets, ID first.

    Args:
        options: the parsed arguments of the command.

    Returns:
        Name -> path.

    Raises:
        InputError: if two sets have one name, or a name can't be printed.
    """
    paths: dict[str, Path] = {}
    for path in map(Path, [options.id, *options.ood]):
        name = path.resolve().name if path.is_dir() else path.stem
        if not name or not name.isprintable():
            raise InputError(f"{str(path)!r}: its name {name!r} can't be printed. Rename the file or folder.")
        if name in paths or name in RESERVED:
            taken = f"also that of {paths[name]}" if name in paths else "reserved"
            raise InputError(f"{path}: the name {name!r} is {taken}. Rename the file or folder.")
        paths[name] = path
    return paths


def load_image_sets(
    paths: Mapping[str, Path], options: argparse.Namespace, detector: Detector, device: str
) -> dict[str, ImageSet]:
    """The image sets by name. Their ids are positions in the whole set.

    Args:
        paths: as of named_paths.
        options: the parsed arguments: their size and images.
        detector: to try on the first image of each set.
        device: where the detector runs.

    Returns:
        Name -> images.

    Raises:
        InputError: if a set is unreadable, or the detector gives no score for its first image.
    """
    sets = {}
    for name, path in paths.items():
        sets[name] = load_image_set(path, options.size, options.images, keep_ids=False)
        _try_network(detector, path, torch.from_numpy(sets[name].first(1).floats()).to(device))
    return sets


def _try_network(detector: Detector, path: Path, image: Tensor) -> None:
    try:
        detector.score(image)
    except InputError as error:
        raise InputError(
            f"{path}: on its first image, of shape {tuple(image.shape)}: {error} The command reads folders as RGB: "
            "store grey images in an npz file. "
            "--size sets the size, --score the score."
        ) from error


def check_folder(out: Path, settings: Mapping[str, Any], outputs: Sequence[Path]) -> None:
    """Checks that the folder `out` holds no results of other settings, nor partial ones.

    Files of unknown settings are in the way too; a settings.json with no results beside it is not.

    Args:
        out: the folder of the results.
        settings: those of this command.
        outputs: paths of the files that it would write.

    Raises:
        InputError: naming what differs.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: pass a folder.")
    results = [path for path in (*outputs, *out.glob(".*.partial-results/[!.]*.partial")) if path.exists()]
    if not results:
        return
    path = out / "settings.json"
    try:
        theirs = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"{results[0]} exists, but {path} does not say what made it ({error}): pass another --out, or delete {out}."
        ) from error
    differing = [key for key in {**theirs, **settings} if not _same(key, theirs.get(key), settings.get(key))]
    if differing:
        listed = "; ".join(f"{key} was {theirs.get(key)}, is {settings.get(key)}" for key in differing)
        raise InputError(f"{out} holds results of other settings ({listed}). Pass another --out, or delete {out}.")


def _same(key: str, theirs: Any, ours: Any) -> bool:
    """Whether a setting is the same. Scores of the probe may differ by the rounding of another machine."""
    if key == PROBE and theirs is not None and len(theirs) == len(ours):
        return bool(np.allclose(theirs, ours, rtol=ROUNDING, atol=ROUNDING, equal_nan=True))
    return bool(theirs == ours)
