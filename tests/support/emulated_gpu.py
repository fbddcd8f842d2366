"""A GPU in name only: tensors with data on the CPU that call themselves CUDA, and are as particular as those of a GPU.

Within `emulated_gpu` tensors can be moved to "cuda". Then as on a GPU

- a function of tensors on both devices raises, but for indices and for scalars on the CPU;
- `.numpy()` of a tensor on the GPU raises, and so does a random draw there from a generator of the CPU;
- what is copied to the host without blocking holds no numbers until its stream, or an event after it, was waited for.

Whatever makes the host wait for the device is counted, by name.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda:0")
CPU = torch.device("cpu")
WAITING = {  # functions of a tensor on the GPU whose result, or its size, the host must know
    *("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "nonzero", "argwhere"),
    *("masked_select", "unique", "_unique2", "unique_consecutive", "bincount", "equal", "allclose", "__contains__"),
    *("is_nonzero", "_local_scalar_dense", "__repr__"),
}
INDEXING = {"__getitem__", "__setitem__", "index_put_", "index_put", "index_select", "gather"}


class GpuTensor(Tensor):
    """A tensor that says it lies on a GPU."""

    device = property(lambda self: GPU)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    def get_device(self) -> int:
        return 0

    def record_stream(self, stream: "Stream") -> None:  # type: ignore[override]
        assert isinstance(stream, Stream)

    def __deepcopy__(self, memo: dict[int, Any]) -> "GpuTensor":
        copied = self.detach().clone().requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            copied._is_param = True  # type: ignore[attr-defined]
        memo[id(self)] = copied
        return copied  # type: ignore[return-value]


class Stream:
    """What was sent to the device, in order: the copies that the host does not have yet."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.pending: list[tuple[Tensor, Tensor]] = []

    def record_event(self, *_: Any) -> "Event":
        event = Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        _count("synchronize")
        _arrive(self.pending)

    def is_capturing(self) -> bool:
        return False

    def wait_stream(self, other: "Stream") -> None:
        assert isinstance(other, Stream)

    def wait_event(self, event: "Event") -> None:
        assert isinstance(event, Event)


class Event:
    """A moment of a stream."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.copies: list[tuple[Tensor, Tensor]] = []

    def record(self, stream: Stream | None = None) -> None:
        self.copies = list((stream or _current()).pending)

    def synchronize(self) -> None:
        waits["event"] += 1
        _arrive(self.copies)

    def elapsed_time(self, _: "Event") -> float:
        return 1.0


waits: Counter[str] = Counter()  # what made the host wait, since the emulation began; "event" is the wait for one batch
_streams: list[Stream] = [Stream()]


def _current(*_: Any) -> Stream:
    return _streams[-1]


def _arrive(copies: list[tuple[Tensor, Tensor]]) -> None:
    with torch._C.DisableTorchFunction():
        for target, source in copies:
            target.copy_(source)
    copies.clear()


def _count(name: str) -> None:
    waits[name] += 1


class _OnOneDevice(TorchFunctionMode):
    """Runs every function on the CPU, and sees to the devices of its arguments and results."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        special = getattr(self, f"_{name}", None) if name in ("to", "cpu", "cuda", "numpy", "pin_memory") else None
        if special:
            return special(*args, **kwargs)
        if name in ("__array__", "copy_", "is_pinned"):
            return getattr(self, f"_{name}")(*args, **kwargs)
        leaves = [leaf for leaf in tree_leaves([args, kwargs]) if isinstance(leaf, Tensor)]
        for own in {type(leaf) for leaf in leaves} - {Tensor, torch.nn.Parameter, GpuTensor}:
            if own.__torch_function__ != Tensor.__torch_function__:  # its functions come here in turn
                with self:
                    return own.__torch_function__(func, types, args, kwargs)
        if func == Tensor.device.__get__ and isinstance(args[0], GpuTensor):  # type: ignore[attr-defined]
            return GPU
        if name == "_has_compatible_shallow_copy_type":  # no: a module that moves takes new parameters
            return len({type(leaf) is GpuTensor for leaf in leaves}) == 1
        on_gpu = any(isinstance(leaf, GpuTensor) for leaf in leaves)
        self._check(func, name, leaves, on_gpu, args, kwargs)
        device = kwargs.pop("device", None)
        made = device is not None and torch.device(device).type == "cuda"
        if made and name in ("tensor", "as_tensor", "asarray"):
            _count(f"{name} to the GPU")
        if device is not None and not made:
            kwargs["device"] = device
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
        in_place = name.endswith("_") and not name.endswith("__")
        if in_place and args and isinstance(args[0], Tensor):
            return args[0]
        to_gpu = made or (device is None and on_gpu)
        return tree_map(lambda one: _named(one, to_gpu), result) if to_gpu else result

    def _check(
        self,
        func: Callable[..., Any],
        name: str,
        leaves: list[Tensor],
        on_gpu: bool,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        generator, device = kwargs.get("generator"), kwargs.get("device")
        wanted = on_gpu if device is None else torch.device(device).type == "cuda"
        if generator is not None and wanted and generator.device.type == "cpu":
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        if not on_gpu:
            return
        strangers = [one for one in leaves if not isinstance(one, GpuTensor) and one.ndim]
        if strangers and name not in {*INDEXING, "__get__", "__set__", "set_", "load_state_dict"}:
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found cuda:0 and cpu")
        if name in WAITING:
            _count(name)
        if name in INDEXING:
            if strangers:
                _count(f"{name} with indices of the CPU")
            if any(one.dtype == torch.bool for one in tree_leaves(args[1:2]) if isinstance(one, GpuTensor)):
                _count(f"{name} with a mask")

    def _to(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args and isinstance(args[0], Tensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        copy = kwargs.pop("copy", False)
        device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
        source_on_gpu = isinstance(tensor, GpuTensor)
        target_on_gpu = source_on_gpu if device is None else device.type == "cuda"
        same = source_on_gpu == target_on_gpu
        options = {} if memory_format is None else {"memory_format": memory_format}
        with torch._C.DisableTorchFunctionSubclass():
            moved = torch.Tensor.to(tensor, dtype or tensor.dtype, copy=copy or not same, **options)
            if same:
                return tensor if moved is tensor else _named(moved, target_on_gpu)
            if target_on_gpu:
                if not (non_blocking and getattr(tensor, "pinned", False)):
                    _count("to the GPU")
                return _named(moved, True)
            arrived = moved.as_subclass(Tensor)
            if not non_blocking:
                _count("to the CPU")
                _arrive(_current().pending)
                return arrived
            empty = torch.full_like(arrived, torch.nan if arrived.is_floating_point() else 0)
        _current().pending.append((empty, arrived.detach()))
        return empty

    def _cpu(self, tensor: Tensor, *_: Any) -> Tensor:
        return self._to(tensor, "cpu")

    def _cuda(self, tensor: Tensor, *_: Any, **__: Any) -> Tensor:
        return self._to(tensor, "cuda")

    def _numpy(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if isinstance(tensor, GpuTensor):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        return Tensor.numpy(tensor, *args, **kwargs)

    def ___array__(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if isinstance(tensor, GpuTensor):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        return Tensor.__array__(tensor, *args, **kwargs)

    def _pin_memory(self, tensor: Tensor, *_: Any) -> Tensor:
        assert not isinstance(tensor, GpuTensor), "only the memory of the host can be pinned"
        pinned = tensor.clone()
        pinned.pinned = True  # type: ignore[attr-defined]
        return pinned

    def _is_pinned(self, tensor: Tensor, *_: Any) -> bool:
        return getattr(tensor, "pinned", False)

    def _copy_(self, target: Tensor, source: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if isinstance(source, GpuTensor) != isinstance(target, GpuTensor):
            _count("copy_ between devices")
        with torch._C.DisableTorchFunctionSubclass():
            Tensor.copy_(target, source)
        return target


def _named(value: Any, on_gpu: bool) -> Any:
    if not isinstance(value, Tensor) or isinstance(value, GpuTensor) == on_gpu:
        return value
    return value.as_subclass(GpuTensor if on_gpu else Tensor)  # type: ignore[arg-type]


class _Autocast(torch.autocast):
    """Autocast of the GPU, on the CPU that computes for it."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


@contextmanager
def _stream(stream: Stream | None) -> Iterator[None]:
    _streams.append(stream or _current())
    try:
        yield
    finally:
        _streams.pop()


def _patches() -> list[AbstractContextManager[Any]]:
    functions: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: "an emulated GPU",
        "get_device_capability": lambda *_: (9, 0),
        "current_stream": _current,
        "default_stream": _current,
        "Stream": Stream,
        "Event": Event,
        "stream": _stream,
        "synchronize": lambda *_: _current().synchronize(),
        "empty_cache": lambda: None,
        "manual_seed_all": lambda seed: None,
        "get_rng_state": lambda *_: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda *_: None,
        "mem_get_info": lambda *_: (2**33, 2**34),
        "reset_peak_memory_stats": lambda *_: None,
        "max_memory_allocated": lambda *_: 2**20,
        "memory_allocated": lambda *_: 0,
    }
    return [patch.object(torch.cuda, name, function) for name, function in functions.items()]


@contextmanager
def emulated_gpu() -> Iterator[Counter[str]]:
    """A context in which torch has a GPU. It yields the counts of what made the host wait for it."""
    waits.clear()
    entered = [
        *_patches(),
        patch.object(torch, "autocast", _Autocast),
        patch.object(torch.accelerator, "current_stream", _current),
        patch("oodcert.certification.precision.compiled", lambda networks: nullcontext()),
    ]
    try:
        for one in entered:
            one.__enter__()
        with _OnOneDevice():
            yield waits
    finally:
        for one in reversed(entered):
            one.__exit__(None, None, None)
