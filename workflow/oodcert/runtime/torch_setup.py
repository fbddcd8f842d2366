"""How a process sets torch up before it computes: GPU, threads, algorithms, rounding and memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from oodcert.errors import InputError
from oodcert.runtime.gpu_slots import take_gpu


class NoGpuError(InputError):
    """A GPU is asked for, but torch sees none."""


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
        NoGpuError: The device is "cuda" and torch sees no GPU.
    """
    if device != "cpu" and jobs_per_gpu is not None:
        take_gpu(jobs_per_gpu)
    import torch  # only now, so that a process that waits for a GPU holds no memory for it

    from oodcert.runtime.determinism import enable_determinism
    from oodcert.runtime.memory import keep_freed_memory

    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise NoGpuError("device = 'cuda', but torch sees no GPU here: set it to cpu or auto.")
    if threads is not None:
        torch.set_num_threads(threads)
    enable_determinism(warn_only)
    keep_freed_memory()
    return "cuda" if has_gpu and device != "cpu" else "cpu"


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
