"""The state of an unfinished training on disk, tied by a fingerprint to the training it belongs to."""

import hashlib
import json
import sys
from zipfile import ZIP_STORED, ZipFile

import torch

from oodcert.errors import InputError
from oodcert.runtime.files import atomic


def fingerprint(settings, tensors):
    """SHA-256 of settings (whatever json or str can write), tensors (dict) and torch's version."""
    digest = hashlib.sha256(json.dumps([settings, torch.__version__], sort_keys=True, default=str).encode())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def save_state(path, mark, epoch, curve, holders):
    """Writes the state after `epoch` epochs, whole or not at all. holders: name -> object with a state_dict."""
    state = {name: holder.state_dict() for name, holder in holders.items()}
    with atomic(path) as temporary:
        torch.save({"fingerprint": mark, "epoch": epoch, "curve": curve, "state": state}, temporary)


def load_state(path, mark, holders):
    """Puts a saved state into the holders: (epochs done, curve). (0, []) where there is no usable file.

    A corrupt file, or one of another fingerprint, is ignored with a line on stderr.
    """
    if not path.exists():
        return 0, []
    try:
        with ZipFile(path) as archive:
            damaged = any(member.compress_type != ZIP_STORED for member in archive.infolist())  # perhaps a bomb
            damaged = damaged or archive.testzip()  # torch.load does not look at checksums
        saved = torch.load(path, map_location="cpu", weights_only=True)
        found = None if damaged else saved["fingerprint"]
    except Exception:  # reading an arbitrary file may raise anything
        found = None
    if found != mark:
        reason = "is of another training" if found else "is damaged"
        print(f"{path} {reason}: ignored, and training starts anew.", file=sys.stderr)
        return 0, []
    try:
        for name, holder in holders.items():
            holder.load_state_dict(saved["state"][name])
        return int(saved["epoch"]), list(saved["curve"])
    except Exception as error:  # as any part of it may be of any kind
        raise InputError(f"{path} is not what its fingerprint says ({error!r}): delete it, and train anew.") from error
