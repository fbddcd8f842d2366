"""Copies between host and device that let both go on, and batches that are made while the one before is used."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Batch = TypeVar("Batch")


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """The array on the device. A GPU gets it by way of pinned memory, so that the host need not wait."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def to_host(tensor: Tensor) -> tuple[Tensor, Callable[[], None]]:
    """A copy on the host, and a function that waits until its numbers are there: the device may still compute them."""
    copy = tensor.to("cpu", non_blocking=True)
    if tensor.is_cuda:
        return copy, torch.cuda.current_stream(tensor.device).record_event().synchronize
    return copy, _no_wait


def _no_wait() -> None:
    pass


def made_ahead(
    batches: Iterator[Batch], device: torch.device, tensors: Callable[[Batch], list[Tensor]]
) -> Iterator[Batch]:
    """The batches, each made while the device still works on the one before it.

    On a GPU they are made on a stream of their own. Where making one waits for the device, it waits for that stream
    alone. On a CPU nothing changes.

    Args:
        batches: Makes batches on the device. What it reads there must not change from the first batch on.
        device: Of the tensors.
        tensors: The tensors of a batch.

    Yields:
        The batches in order.
    """
    if device.type != "cuda":
        yield from batches
        return
    using, making = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    making.wait_stream(using)
    while True:
        with torch.cuda.stream(making):
            batch = next(batches, None)
        if batch is None:
            return
        using.wait_stream(making)
        for tensor in tensors(batch):
            tensor.record_stream(using)  # its memory is not given to another batch before it was used
        yield batch
