"""How a process sets torch up before it computes: GPU, threads, algorithms, rounding and memory."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from oodcert.errors import InputError
from oodcert.runtime.gpu_list import visible_gpus
from oodcert.runtime.gpu_slots import free_gpu, take_gpu


class NoGpuError(InputError):
    """A GPU is asked for, but torch can use none. The caller names its own setting before the message."""


def prepare_torch(
    device: str, threads: int | None = None, jobs_per_gpu: int | None = None, warn_only: bool = False
) -> str:
    """Sets torch up for this process and says which device it computes on.

    Args:
        device: "cpu", "cuda", or "auto", which takes a GPU where there is one.
        threads: Number of CPU threads; torch's own choice by default.
        jobs_per_gpu: How many jobs may share a GPU; the process waits for a free slot (see take_gpu). By default the
            process takes no slot.
        warn_only: Whether an operation without a deterministic algorithm runs with a warning instead of an error.

    Returns:
        "cpu" or "cuda".

    Raises:
        NoGpuError: The device is "cuda" and torch sees no GPU, or it is "auto", there is a GPU, and torch can't use it.
    """
    if device != "cpu" and jobs_per_gpu is not None:
        take_gpu(jobs_per_gpu)
    import torch  # only now, so that a process that waits for a GPU holds no memory for it

    from oodcert.runtime.determinism import enable_determinism
    from oodcert.runtime.memory import keep_freed_memory

    has_gpu = device != "cpu" and torch.cuda.is_available()
    if device != "cpu" and not has_gpu:
        _refuse_unusable_gpu(device)
    if threads is not None:
        torch.set_num_threads(threads)
    enable_determinism(warn_only)
    keep_freed_memory()
    return "cuda" if has_gpu else "cpu"


def device_name(device: str) -> str:
    """The device as sidecars name it: "cpu", or "cuda" with the model of the GPU, on which float rounding depends."""
    import torch

    return f"cuda ({torch.cuda.get_device_name()})" if device == "cuda" else device


def _refuse_unusable_gpu(device: str) -> None:
    """Raises NoGpuError where torch uses no GPU, but for "auto" on a machine without one, or with a torch for CPUs."""
    import torch

    gpus = visible_gpus()
    if gpus and torch.backends.cuda.is_built():
        raise NoGpuError(
            f"torch {torch.__version__} can't use {', '.join(gpus)} ({_reason()}): install another driver or another "
            "torch, or set it to cpu."
        )
    if device == "cuda":
        raise NoGpuError("torch sees no GPU here: set it to cpu or auto.")
    if gpus:
        print(f"torch {torch.__version__} is built for CPUs, so the GPU is not used.", file=sys.stderr)
        free_gpu()


def _reason() -> str:
    """Why torch can't use a GPU, in the words of torch, which name the driver and its version."""
    import torch

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0].rstrip(".")
    return "it names no reason"


@contextmanager
def in_float32() -> Iterator[None]:
    """Within it, and in a function that it decorates, new tensors are float32 whatever torch's default dtype is."""
    import torch

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(default)
