"""What the commands make of their arguments: a device, a detector, image sets, and whose results a folder holds."""

import hashlib
import json
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch

from oodcert.data.folder import select_images
from oodcert.errors import InputError
from oodcert.models.detector import Detector
from oodcert.models.user_networks import load_network, load_object
from oodcert.models.weight_files import load_weights
from oodcert.runtime import torch_setup

RESERVED = ("average", "settings")  # a row of the tables, a file beside the results


@dataclass(frozen=True, eq=False)
class Images:
    """A named set. pixels: float32 [N, C, H, W] in [0, 1]; positions: of each image in the whole set, N integers."""

    name: str
    path: Path
    positions: list
    pixels: torch.Tensor

    def __len__(self):
        return len(self.positions)

    def sha256(self):
        header = f"{self.positions} {tuple(self.pixels.shape)}".encode()
        return hashlib.sha256(header + self.pixels.numpy().tobytes()).hexdigest()


def prepare_torch(options):
    """Fixes torch's algorithms and rounding; returns the device, "cpu" or "cuda", of --device."""
    try:
        return torch_setup.prepare_torch(options.device, warn_only=True)
    except torch_setup.NoGpuError as error:
        raise InputError("--device cuda: torch sees no GPU here. Use auto or cpu.") from error


def load_detector(options, device):
    """The Detector of --network, --weights and --score, on the device."""
    network = load_network(options.network)
    if options.weights:
        load_weights(network, options.weights)
    score = load_object(options.score) if ":" in options.score else options.score
    return Detector(network.to(device), score)


def load_sets(options, detector, device):
    """The image sets of --id and --ood, by name: dict of Images, ID first.

    Raises InputError where two sets have one name, or where the detector gives no score for a set's first image.
    """
    sets = {}
    for path in map(Path, [options.id, *options.ood]):
        name = path.resolve().name if path.is_dir() else path.stem
        if name in sets or name in RESERVED:
            taken = f"also that of {sets[name].path}" if name in sets else "reserved"
            raise InputError(f"{path}: the name {name!r} is {taken}. Rename the file or folder.")
        sets[name] = Images(name, path, *select_images(path, options.size, options.images))
        _try_network(detector, path, sets[name].pixels[:1].to(device))
    return sets


def _try_network(detector, path, image):
    try:
        score = detector.score(image)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path}: the network or the score fails on an image of shape {tuple(image.shape)} from there ({error}). "
            "Check channels (folders are read as RGB) and size (--size)."
        ) from error
    if score.shape != (1,):
        raise InputError(f"--score gave {tuple(score.shape)} for the logits of one image: one number an image needed.")


def tensors_sha256(network):
    """SHA-256 of all parameters and buffers of a network, with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, tensor in chain(network.named_parameters(), network.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_folder(out, settings, outputs):
    """Raises InputError, naming what differs, where the folder `out` holds results of other settings, or parts of them.

    Files of no known settings are in the way too; a settings.json with no results beside it is not.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: pass a folder.")
    results = [path for path in (*outputs, *out.glob("parts/*/*.parquet")) if path.exists()]
    if not results:
        return
    path = out / "settings.json"
    try:
        theirs = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"{results[0]} exists, but {path} does not say what made it ({error}): pass another --out, or delete {out}."
        ) from error
    differing = [key for key in {**theirs, **settings} if theirs.get(key) != settings.get(key)]
    if differing:
        listed = "; ".join(f"{key} was {theirs.get(key)}, is {settings.get(key)}" for key in differing)
        raise InputError(f"{out} holds results of other settings ({listed}). Pass another --out, or delete {out}.")
