"""What a network is, so that results of another one are not taken for its results."""

import argparse
import hashlib
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oodcert.models.detector import Detector
from oodcert.runtime.keyed_noise import derive_seed

PROBES = 4  # images
FOREIGN = {*sys.stdlib_module_names, "torch", "numpy"}  # top-level modules, whose objects say nothing of a network
NAMESPACES = (types.SimpleNamespace, argparse.Namespace)
VALUES = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


def network_sha256(network: nn.Module) -> str:
    """SHA-256 of everything that a network holds: tensors, numbers and texts, with their names.

    It covers the state, and the attributes of every module, also of modules that are not registered: plain tensors,
    arrays, numbers, texts, and what containers, functions and the user's objects hold of them. Quantised, packed and
    sparse tensors are included. Python code is not (see oodcert.runtime.source_files), that of scripted modules is.

    Args:
        network: Any module.

    Returns:
        The checksum, in hexadecimal digits.
    """
    content = _Content()
    content.add("state", dict(network.state_dict()))
    content.add("network", network)
    return content.digest.hexdigest()


def probe_scores(detector: Detector, images: Tensor, sigma: float) -> list[float]:
    """Scores of a few images, as they are and with noise. They tell networks apart that hold the same.

    Args:
        detector: On the images' device.
        images: float32 [N, C, H, W] in [0, 1]. The first PROBES are taken.
        sigma: Standard deviation of the noise.

    Returns:
        The scores, those without noise first.
    """
    few = images[:PROBES]
    seed = derive_seed(0, "probe")
    noise = torch.randn(few.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    torch.manual_seed(seed)  # for networks that are random
    return [*detector.score(few).tolist(), *detector.score((few + sigma * noise.to(few.device)).clamp(0, 1)).tolist()]


class _Content:
    """A checksum of nested values. An object counts where it is met first."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.met: dict[int, Any] = {}  # the objects too, so that no id is used again

    def add(self, name: str, value: Any) -> None:
        if isinstance(value, VALUES):
            self.digest.update(f"{name}={type(value).__name__}:{value!r};".encode())
            return
        if id(value) in self.met:
            return
        self.met[id(value)] = value
        self.digest.update(f"{name}:{type(value).__qualname__};".encode())
        if isinstance(value, Tensor):
            self._add_tensor(value)
        elif isinstance(value, (np.ndarray, np.generic)):
            self.add(
                "array", value.tolist() if value.dtype.hasobject else (str(value.dtype), value.shape, value.tobytes())
            )
        else:
            for key, held in _contents(value):
                self.add(key, held)

    def _add_tensor(self, tensor: Tensor) -> None:
        tensor = tensor.detach()
        self.digest.update(f"{tensor.dtype} {tuple(tensor.shape)} {tensor.layout}".encode())
        if hasattr(tensor, "__tensor_flatten__"):
            for name in tensor.__tensor_flatten__()[0]:
                self.add(name, getattr(tensor, name))
        elif tensor.is_quantized:
            self.add("scheme", str(tensor.qscheme()))
            self.add("integers", tensor.int_repr())
            self.add("values", tensor.dequantize())
        elif tensor.layout != torch.strided:
            self.add("values", tensor.to_dense())
        elif tensor.device.type != "meta":
            whole = tensor.cpu().resolve_conj().resolve_neg().contiguous()
            self.digest.update(whole.reshape(-1).view(torch.uint8).numpy().tobytes())


def _contents(value: Any) -> Iterator[tuple[str, Any]]:
    """What a container, function, module or object of the user holds, by name."""
    if isinstance(value, torch.jit.ScriptModule):
        yield from (("graph", str(value.inlined_graph)), ("state", dict(value.state_dict())))
    elif isinstance(value, nn.Module):
        yield from vars(value).items()
    elif isinstance(value, Mapping):
        yield from ((repr(key) if isinstance(key, VALUES) else "key", held) for key, held in value.items())
    elif isinstance(value, (list, tuple, deque)):
        yield from (("element", held) for held in value)
    elif isinstance(value, (set, frozenset)):
        yield from (("element", held) for held in sorted(value, key=repr))
    elif isinstance(value, partial):
        yield from (("function", value.func), ("args", value.args), ("keywords", value.keywords))
    elif isinstance(value, torch.ScriptObject):  # packed weights
        yield "state", value.__getstate__()
    elif isinstance(value, types.MethodType):
        yield from (("function", value.__func__), ("object", value.__self__))
    elif isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType()]
        yield from (("code", value.__code__.co_code), ("defaults", value.__defaults__), ("closure", cells))
        yield "constants", [one for one in value.__code__.co_consts if isinstance(one, VALUES)]
    elif isinstance(value, NAMESPACES) or _is_of_the_user(value):
        yield from getattr(value, "__dict__", {}).items()
        yield from ((name, getattr(value, name)) for name in _slots(type(value)) if hasattr(value, name))


def _is_of_the_user(value: Any) -> bool:
    """Whether a value is an object, not a class or module, whose class is neither Python's, torch's nor numpy's."""
    foreign = type(value).__module__.partition(".")[0] in FOREIGN
    return not foreign and not isinstance(value, (type, types.ModuleType))


def _slots(kind: type) -> list[str]:
    slots = [getattr(base, "__slots__", ()) for base in kind.__mro__]
    return [name for names in slots for name in ([names] if isinstance(names, str) else names)]
