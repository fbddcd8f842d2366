"""Files of weights, which are read without running any code that they may hold."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from zipfile import ZipFile, is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from oodcert.errors import InputError

LONGEST = 2000  # characters of a list of mismatches
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Loads a state dict into a network, name by name and shape by shape.

    Args:
        network: The network; it is changed in place.
        path: A file that read_state can read.

    Returns:
        The same network.

    Raises:
        InputError: The file is unreadable or refused (see read_state), or does not fit the network.
    """
    state = read_state(path)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit the network. {shorten(str(error), LONGEST)}") from error
    return network


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file of weights. Nothing in the file is ever executed.

    Args:
        path: A .safetensors file, or what torch.save wrote: a state dict, or a dict that holds one as "state_dict" or
            "model".

    Returns:
        Name -> plain tensor, on the CPU.

    Raises:
        InputError: The file is missing, a web page or corrupt, or holds more than tensors and plain values (it could
            run code).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file. Check the path of the weights.")
    with path.open("rb") as file:
        if file.read(512).lstrip().lower().startswith((b"<!doctype", b"<html")):
            raise InputError(
                f"{path}: a web page, not a file of weights. Open it in a browser and download from there."
            )
    state = _read(path)
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and type(tensor) in (Tensor, nn.Parameter) and _is_dense(tensor)
        for key, tensor in state.items()
    ):
        raise InputError(f"{path}: holds no state dict. Save one with torch.save(network.state_dict(), path).")
    return {key: Tensor.detach(tensor) for key, tensor in state.items()}  # a file may set a tensor's attributes


def _read(path: Path) -> object:
    """Whatever the file holds; InputError where it can't be read or trusted."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _refuse_packed(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: refused, since it is corrupt or holds objects that could run code. Save the tensors alone: "
            f"torch.save(network.state_dict(), path). {shorten(str(error), 300)}"
        ) from error
    except Exception as error:  # torch and safetensors raise many kinds on corrupt files
        raise InputError(
            f"{path}: not a readable file of weights, perhaps cut off ({shorten(str(error), 300)}). Get it again."
        ) from error


def _is_dense(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not (tensor.is_meta or tensor.is_nested)


def _refuse_packed(path: Path) -> None:
    """Refuses a zip bomb: torch.save packs nothing, so no file of it unpacks to more bytes than the file has."""
    if is_zipfile(path):
        with ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                raise ValueError("it unpacks to more bytes than it has")


def mismatches(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """What keeps tensors from taking the place of the expected ones.

    Args:
        tensors: Name -> tensor, as read.
        expected: Name -> tensor of the network.

    Returns:
        Sorted phrases, each of which names a tensor that is missing, unexpected, of another shape or type, or not
        finite. None where all fit.
    """
    shared = expected.keys() & tensors.keys()
    faults = [f"missing {name}" for name in expected.keys() - tensors.keys()]
    faults += [f"unexpected {name}" for name in tensors.keys() - expected.keys()]
    faults += [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(expected[name].shape)}"
        for name in shared
        if tensors[name].shape != expected[name].shape
    ]
    faults += [
        f"{name} is of type {tensors[name].dtype}"
        for name in shared
        if (tensors[name].dtype in FLOATS) != expected[name].is_floating_point()
    ]
    faults += [
        f"{name} holds NaN or infinity"
        for name in shared
        if tensors[name].shape == expected[name].shape  # others can be of any size
        and tensors[name].dtype in FLOATS
        and not torch.isfinite(tensors[name].float()).all()
    ]
    return sorted(faults)
