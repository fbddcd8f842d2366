"""Batches that do not fit in memory, and memory that is kept for the next batch."""

import ctypes
import sys

import torch

from oodcert.errors import InputError

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of glibc's mallopt
KEPT = 2**30  # bytes


def keep_freed_memory():
    """Has glibc keep freed memory for this process, at the end of its heap up to 1 GiB; elsewhere nothing happens.

    By default it returns a tensor's pages to the system, which clears each one when the next tensor of that size asks
    for it: on a CPU that can take as long as the network.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(TRIM_THRESHOLD, KEPT)
        mallopt(MMAP_MAX, 0)  # a mapping of its own would be given back with its tensor


def is_out_of_memory(error):
    """Whether an exception says that memory, a GPU's or the machine's, did not suffice for a tensor."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


def with_oom_backoff(compute):
    """The function compute, which halves its batch until memory suffices, and keeps to that size from then on.

    compute: callable from a batch, anything with a length that can be sliced, to a tensor with a row each, or a dict of
    such tensors. An image's row does not depend on the others of its batch, but for what float rounding does with
    batches of another size. Raises what compute does where a single image does not fit, and InputError where compute
    has changed a batch in place before memory gave out.
    """
    largest = sys.maxsize

    def computed(batch):
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
                    "that parts of it can't be tried: give a smaller batch size, or let the network work on a copy."
                )
            largest = -(-size // 2)
            print(f"Memory does not suffice for batches of {size}: going on with {largest}.", file=sys.stderr)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    return computed


def _joined(found):
    if isinstance(found[0], dict):
        return {key: torch.cat([part[key] for part in found]) for key in found[0]}
    return torch.cat(found)
