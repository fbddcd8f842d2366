"""The state of an unfinished training on disk, tied by a fingerprint to the training it belongs to."""

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from zipfile import ZIP_STORED, ZipFile

import torch
from torch import Tensor

from oodcert.errors import InputError
from oodcert.runtime.files import atomic

Row = tuple[int, str, float]  # of the learning curve: epoch, term, value


class HasState(Protocol):
    """A module, an optimizer or a learning-rate scheduler."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that load_state_dict needs."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Puts the object in the state of state_dict."""


Holders = dict[str, HasState]


def fingerprint(settings: object, tensors: Mapping[str, Tensor]) -> str:
    """A hash of settings, tensors and torch's version.

    Args:
        settings: Whatever json or str can write.
        tensors: Name -> tensor; names, types, shapes and values count.

    Returns:
        SHA-256 as 64 hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps([settings, torch.__version__], sort_keys=True, default=str).encode())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_state(path: Path, fingerprint: str, epoch: int, curve: list[Row], holders: Holders) -> None:
    """Writes the state after some epochs, whole or not at all.

    Args:
        path: Of the file, which is replaced where it exists.
        fingerprint: Of the training.
        epoch: Number of epochs done.
        curve: Rows of the learning curve so far.
        holders: Name -> object whose state is saved.
    """
    state = {name: holder.state_dict() for name, holder in holders.items()}
    with atomic(path) as temporary:
        torch.save({"fingerprint": fingerprint, "epoch": epoch, "curve": curve, "state": state}, temporary)


def load_state(path: Path, fingerprint: str, holders: Holders) -> tuple[int, list[Row]]:
    """Puts a saved state into the holders.

    A corrupt file, or one of another fingerprint, is ignored with a line on stderr.

    Args:
        path: A file of save_state.
        fingerprint: Of the training that is to go on.
        holders: Name -> object whose state is loaded.

    Returns:
        The number of epochs done, and the rows of the learning curve so far. 0 and none where there is no usable file.

    Raises:
        InputError: The file has the right fingerprint, but does not fit the holders.
    """
    if not path.exists():
        return 0, []
    saved = _read(path)
    if saved.get("fingerprint") != fingerprint:
        reason = "is of another training" if saved.get("fingerprint") else "is damaged"
        print(f"{path} {reason}: ignored, and training starts anew.", file=sys.stderr)
        return 0, []
    try:
        for name, holder in holders.items():
            holder.load_state_dict(saved["state"][name])
        return int(saved["epoch"]), list(saved["curve"])
    except Exception as error:  # as anything in it may be of any kind
        raise InputError(f"{path} is not what its fingerprint says ({error!r}): delete it, and train anew.") from error


def _read(path: Path) -> dict[str, Any]:
    """What save_state wrote; empty where the file is damaged."""
    try:
        with ZipFile(path) as archive:
            packed = any(member.compress_type != ZIP_STORED for member in archive.infolist())  # perhaps a bomb
            damaged = packed or archive.testzip()  # torch.load does not look at checksums
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return saved if isinstance(saved, dict) and not damaged else {}
    except Exception:  # reading an arbitrary file may raise anything
        return {}
