"""Files of weights, which are read without running any code that they may hold."""

import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from zipfile import ZipFile, is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from oodcert.errors import InputError
from oodcert.models.weight_names import STEPS, prefix_of, renamed

FEW = 3  # mismatches of a kind that a message names
LONGEST = 100  # characters of a name in a message
DEPTH = 3  # of dicts in a file, within which a state dict may lie
NOT_WEIGHTS = re.compile("optim|sched|scaler", re.IGNORECASE)  # parts of a checkpoint
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

LONGEST_HEADER = 100_000_000  # bytes, of a safetensors file
BY_TORCH = (b"PK\x03\x04", b"\x80\x02")  # how files of torch.save begin: a zip, and of old a pickle

State = dict[str, Tensor]


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Loads a state dict into a network, name by name and shape by shape, in the network's types.

    Args:
        network: The network; it is changed in place.
        path: A file that read_state can read. What wrappers put before its names, such as "module.", is left out.

    Returns:
        The same network.

    Raises:
        InputError: The file is unreadable or refused (see read_state), does not fit the network, or holds numbers of
            another type, NaN or infinity.
    """
    expected = {name: tensor for name, tensor in network.state_dict().items() if isinstance(tensor, Tensor)}
    read = read_state(path, lambda state: not _misfits(renamed(state, expected), expected, optional=STEPS))
    state = renamed(read, expected)
    if faults := listed(_unusable(state, expected)):
        raise InputError(f"{path} does not fit the network: {'; '.join(faults)}. Save the weights as plain floats.")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        faults = mismatches(state, expected) or [shorten(str(error), 300)]
        raise InputError(
            f"{path} does not fit the network{without_prefix(read, expected)}: {'; '.join(faults)}. Check that both "
            "are of one architecture."
        ) from error
    return network


def without_prefix(state: Iterable[str], expected: Iterable[str]) -> str:
    """Words for a message about a file whose names have a prefix, and do not fit without it either; "" without one."""
    prefix = prefix_of(state, expected)
    return f", even without the prefix {prefix!r} of its names" if prefix else ""


def read_state(path: str | Path, fits: Callable[[State], bool] | None = None) -> State:
    """The tensors of a file of weights. Nothing in the file is ever executed.

    Args:
        path: A safetensors file, or what torch.save wrote: a state dict, or a dict that holds one, as "state_dict",
            "model", "ema" or under any other name. The content decides, not the suffix.
        fits: Whether a state dict is that of the network which is meant. It decides between several.

    Returns:
        Name -> plain tensor, on the CPU. Where no state dict fits, the largest.

    Raises:
        InputError: The file is missing, a web page or corrupt, holds more than tensors and plain values (it could
            run code), or several state dicts that fit.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file. Check the path of the weights.")
    with path.open("rb") as file:
        start = file.read(512)
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise InputError(f"{path}: a web page, not a file of weights. Open it in a browser and download from there.")
    states = {place: _plain(state) for place, state in _states(_read(path, start))}
    if not states:
        raise InputError(f"{path}: holds no state dict. Save one with torch.save(network.state_dict(), path).")
    fitting = [place for place, state in states.items() if fits is None or fits(state)]
    if len(fitting) > 1:
        raise InputError(
            f"{path}: several state dicts in it fit, {', '.join(fitting[:FEW])}{' …' * (len(fitting) > FEW)}. "
            "Save the one that is meant as a file of its own."
        )
    return states[fitting[0]] if fitting else max(states.values(), key=len)


def _states(content: object, place: str = "", depth: int = 0) -> Iterator[tuple[str, dict]]:
    """Every state dict in what a file holds, and the names that lead to it."""
    if not isinstance(content, dict):
        return
    if (content or not depth) and all(
        isinstance(key, str) and type(tensor) in (Tensor, nn.Parameter) and _is_dense(tensor)
        for key, tensor in content.items()
    ):
        yield place, content
    elif depth < DEPTH:
        for key, value in content.items():
            if isinstance(key, str) and not NOT_WEIGHTS.search(key):
                yield from _states(value, f"{place}.{key}" if place else key, depth + 1)


def _plain(state: dict) -> State:
    """The tensors without attributes, which a file may set."""
    return {key: Tensor.detach(tensor) for key, tensor in state.items()}


def _read(path: Path, start: bytes) -> object:
    """Whatever the file holds, which begins with `start`; InputError where it can't be read or trusted."""
    try:
        if is_safetensors(start) or (path.suffix == ".safetensors" and not start.startswith(BY_TORCH)):
            return load_file(path)
        _refuse_packed(path)
        with path.open("rb") as file:  # of a path, torch.load would look at the suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: refused, since it is corrupt or holds objects that could run code, as a whole network by "
            f"torch.save(network) does. Save the tensors alone: torch.save(network.state_dict(), path). "
            f"{shorten(str(error), 300)}"
        ) from error
    except Exception as error:  # torch and safetensors raise many kinds on corrupt files
        if "TorchScript" in str(error):
            raise InputError(
                f"{path}: a TorchScript archive, which holds a program. Save the tensors alone: "
                "torch.save(network.state_dict(), path)."
            ) from error
        raise InputError(
            f"{path}: not a readable file of weights, perhaps cut off ({shorten(str(error), 300)}). Get it again."
        ) from error


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins with these bytes is one of safetensors: the length of a header, and its brace."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < LONGEST_HEADER


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
        Phrases, each of which names a tensor that is missing, unexpected, of another shape or type, or not finite: the
        first FEW of each kind, and how many more there are. None where all fit.
    """
    return listed({**_misfits(tensors, expected), **_unusable(tensors, expected)})


def listed(faults: Mapping[str, Sequence[str]]) -> list[str]:
    """The first FEW phrases of every kind of fault, and how many more there are."""
    phrases = []
    for kind, several in faults.items():
        phrases += sorted(several)[:FEW]
        if len(several) > FEW:
            phrases.append(f"and {len(several) - FEW} more {kind}")
    return phrases


def _misfits(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], optional: str | None = None
) -> dict[str, list[str]]:
    """Kind of fault -> phrases on names and shapes. Names that end with `optional` may be missing."""
    missing = [name for name in expected.keys() - tensors.keys() if not (optional and name.endswith(optional))]
    faults = {
        "missing": [f"missing {_short(name)}" for name in missing],
        "unexpected": [f"unexpected {_short(name)}" for name in tensors.keys() - expected.keys()],
        "of other shapes": [
            f"{_short(name)} is {tuple(tensors[name].shape)}, not {tuple(expected[name].shape)}"
            for name in expected.keys() & tensors.keys()
            if not _same_shape(tensors[name], expected[name])
        ],
    }
    return {kind: phrases for kind, phrases in faults.items() if phrases}


def _unusable(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Kind of fault -> phrases on the numbers of the tensors that are expected."""
    shared = expected.keys() & tensors.keys()
    strange = {name for name in shared if not _same_kind(tensors[name].dtype, expected[name].dtype)}
    faults = {
        "of other types": [
            f"{_short(name)} is of type {tensors[name].dtype}, not {expected[name].dtype}" for name in strange
        ],
        "not finite": [
            f"{_short(name)} holds NaN or infinity"
            for name in shared - strange
            if _same_shape(tensors[name], expected[name])  # others can be of any size
            and not _is_finite(tensors[name], expected[name].dtype)
        ],
    }
    return {kind: phrases for kind, phrases in faults.items() if phrases}


def _same_kind(given: torch.dtype, expected: torch.dtype) -> bool:
    """Whether numbers of one type are taken for another: floats for floats, and each other type for itself alone."""
    return given in FLOATS if expected.is_floating_point else given == expected


def _is_finite(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether all numbers are finite in the network's type, which may have a smaller range than the file's."""
    return not (dtype.is_floating_point or dtype.is_complex) or bool(torch.isfinite(tensor.to(dtype)).all())


def _same_shape(tensor: Tensor, expected: Tensor) -> bool:
    return is_lazy(expected) or tensor.shape == expected.shape


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}…"
