"""Pickled arrays, without what makes pickles dangerous."""

import io
import pickle

import numpy as np
from numpy._core.multiarray import _reconstruct

from oodcert.errors import InputError


def _empty(kind, shape, code):
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


def load_pickle(data, name):
    """What the bytes of a pickle hold: dicts, lists, numbers, strings (those of Python 2 as latin-1), numpy arrays.

    Anything else, so anything that could run code, is refused before it is built. torchvision would unpickle CIFAR's
    batches without that, behind the same checksum. Raises InputError, naming `name`.
    """
    try:
        return _Arrays(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # a broken pickle can raise anything
        raise InputError(f"{name}: not a pickle of arrays ({error}). Delete the file and fetch it again.") from error


class _Arrays(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which could run code")
        return ALLOWED[module, name]
