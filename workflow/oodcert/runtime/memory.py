"""Batches that do not fit in memory, and memory that is kept for the next batch."""

import ctypes
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from oodcert.errors import InputError

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of glibc's mallopt
KEPT = 2**30  # bytes

# what allocators, CUDA and its libraries say; cuBLAS that can't begin has no memory for its own tables
_EXHAUSTED = re.compile(
    r"DefaultCPUAllocator|out of memory|not enough memory|ALLOC(ATION)?_FAILED|cudaErrorMemoryAllocation"
    r"|CUBLAS_STATUS_NOT_INITIALIZED",
    re.IGNORECASE,
)

T = TypeVar("T")
Rows = TypeVar("Rows", Tensor, dict[str, Tensor])  # with a row for each sample of a batch


def keep_freed_memory() -> None:
    """Has glibc keep freed memory for this process, at the end of its heap up to 1 GiB.

    By default glibc returns a tensor's pages to the system, which clears each one when the next tensor of that size
    asks for it: on a CPU that can take as long as the network. Where there is no glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(TRIM_THRESHOLD, KEPT)
        mallopt(MMAP_MAX, 0)  # a mapping of its own would be given back with its tensor


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory, of a GPU or of the machine, did not suffice for a tensor.

    Args:
        error: Any exception.

    Returns:
        True for such an exception.
    """
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and _EXHAUSTED.search(str(error)) is not None
    )


def with_oom_backoff(compute: Callable[[Any], Rows]) -> Callable[[Any], Rows]:
    """The function, which halves its batch until memory suffices, and keeps to that size from then on.

    An image's row does not depend on the others of its batch, but for what float rounding does with batches of another
    size.

    Args:
        compute: Maps a batch, anything with a length that can be sliced, to a tensor with a
            row for each of its samples, or to a dict of such tensors.

    Returns:
        A function of the same arguments and results. It raises what compute does where a single sample does not fit,
        and InputError where compute has changed a batch in place before memory gave out.
    """
    largest = sys.maxsize

    def computed(batch: Any) -> Rows:
        nonlocal largest
        while True:
            size, version = min(largest, len(batch)), getattr(batch, "_version", None)
            try:
                return _joined([compute(batch[start : start + size]) for start in range(0, len(batch), size)])
            except RuntimeError as error:
                if size == 1 or not is_out_of_memory(error):
                    raise
            if getattr(batch, "_version", None) != version:
                raise InputError(
                    f"Memory does not suffice for a batch of {size}, and the network changes its input in place, so "
                    "that smaller batches can't be tried: give a smaller batch size, or let the network work on a copy."
                )
            largest = -(-size // 2)
            print(f"Memory does not suffice for batches of {size}: going on with {largest}.", file=sys.stderr)
            _empty_cache()

    return computed


def within_memory(compute: Callable[[], T], size: int, attempt: Callable[[int], object], setting: str) -> T:
    """The result of a computation whose numbers depend on its batch, so that smaller batches can't take its place.

    Args:
        compute: Works on a batch.
        size: Of that batch.
        attempt: The same for the first images alone, of a number that it is given. It is tried where memory does not
            suffice, and its result is not used.
        setting: That decides the size, as a message may name it.

    Returns:
        The result of compute.

    Raises:
        InputError: Memory does not suffice; the message names the largest half, quarter and so on that fits.
    """
    try:
        return compute()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        said = str(error).splitlines()[0]
    fitting = size  # tried out here, where the tensors of the traceback are gone
    while fitting > 1:
        fitting //= 2
        _empty_cache()
        try:
            attempt(fitting)
            raise InputError(
                f"Memory does not suffice for a batch of {size} ({said}), and its numbers depend on its size. A batch "
                f"of {fitting} fits: set {setting} to that or less, or use a device with more memory."
            )
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
    raise InputError(f"Memory does not suffice for a single image ({said}): use a device with more memory.")


def _empty_cache() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _joined(results: list[Rows]) -> Rows:
    first = results[0]
    if isinstance(first, dict):
        return {key: torch.cat([result[key] for result in results]) for key in first}
    return torch.cat(results)
