"""npz files from strangers: arrays of numbers and strings, and nothing that is pickled."""

import zipfile

import numpy as np

from oodcert.data.archives import unpacked_limit
from oodcert.errors import InputError


def read_arrays(path, keys):
    """Those arrays of an npz file that it has of the keys: name -> array.

    Raises InputError where the file is not a whole npz file, unpacks to more than `archives` lets an archive, or one of
    these arrays is pickled.
    """
    key = ""
    try:
        with zipfile.ZipFile(path) as packed, np.load(path, allow_pickle=False) as archive:
            if sum(member.file_size for member in packed.infolist()) > unpacked_limit(path):
                raise ValueError(f"it unpacks to more than {unpacked_limit(path)} bytes")
            found = {}
            for key in keys:
                if key in archive:
                    found[key] = archive[key]
            return found
    except Exception as error:  # zipfile and numpy raise many kinds on broken files
        cause = ": ".join(filter(None, [key, " ".join(str(error).split())]))
        raise InputError(
            f"{path}: not a readable npz file ({cause}). Fetch it again, or write it with numpy.savez_compressed."
        ) from error
