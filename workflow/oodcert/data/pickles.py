"""Pickled arrays, without what makes pickles dangerous."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
from numpy._core.multiarray import _reconstruct

from oodcert.errors import InputError


def _empty(kind: type, shape: tuple[int, ...], code: bytes) -> Any:
    """The array without elements that numpy's pickles begin with; their state then brings shape and bytes along."""
    if (kind, shape) != (np.ndarray, (0,)):
        raise pickle.UnpicklingError(f"it asks for an array of {shape} out of nothing")
    return _reconstruct(kind, shape, code)


ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _empty,
    ("numpy._core.multiarray", "_reconstruct"): _empty,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def load_pickle(data: bytes, name: str) -> Any:
    """What a pickle holds: dicts, lists, numbers, strings (those of Python 2 as latin-1) and numpy arrays.

    Anything else, so anything that could run code, is refused before it is built. torchvision unpickles CIFAR's
    batches without such a check, behind the same checksum.

    Args:
        data: the bytes of the pickle.
        name: what error messages call it.

    Returns:
        The content.

    Raises:
        InputError: if the pickle is damaged or holds anything else.
    """
    try:
        return _Arrays(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # a broken pickle can raise anything
        raise InputError(f"{name}: not a pickle of arrays ({error}). Delete the file and fetch it again.") from error


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which could run code")
        return ALLOWED[module, name]
