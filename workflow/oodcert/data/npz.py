"""Untrusted npz files: arrays of numbers and strings, and nothing that is pickled."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodcert.data.archives import unpacked_limit
from oodcert.errors import InputError


def read_arrays(path: str | Path, keys: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Some arrays of an npz file.

    Args:
        path: the file.
        keys: names of the arrays that are wanted.

    Returns:
        Name -> array, of those that are there.

    Raises:
        InputError: if the file is not a whole npz file, unpacks to more than `archives.unpacked_limit`, or one of
            these arrays is pickled.
    """
    key = ""
    try:
        with zipfile.ZipFile(path) as packed, np.load(path, allow_pickle=False) as archive:
            if sum(member.file_size for member in packed.infolist()) > unpacked_limit(path):
                raise ValueError(f"it unpacks to more than {unpacked_limit(path)} bytes")
            arrays = {}
            for key in keys:
                if key in archive:
                    arrays[key] = archive[key]
            return arrays
    except Exception as error:  # zipfile and numpy raise many kinds on broken files
        cause = ": ".join(filter(None, [key, " ".join(str(error).split())]))
        raise InputError(
            f"{path}: not a readable npz file ({cause}). Fetch it again, or write it with numpy.savez_compressed."
        ) from error
