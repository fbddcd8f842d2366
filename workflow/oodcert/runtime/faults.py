"""Faults of the machine, told from defects of the program, and what to do about each."""

import errno
import os
from pathlib import Path

from oodcert.errors import InputError

AGAIN = "What is finished is kept: run the same command again, and it goes on from there."
_DISK = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EROFS: "the file system is read-only: make it writable, or run in another folder",
    errno.EACCES: "the file or folder may not be read or written: give yourself the right to, or run in another folder",
    errno.EIO: "the disk gave an input/output error: look into the system's log before you trust it",
}
_GPU_SIGNS = ("CUDA error", "CUDA driver", "NVIDIA driver")
_DEFECT_SIGNS = ("device-side assert", "illegal memory access", "invalid argument")  # of a program, not of a device


def explained(error: BaseException) -> str | None:
    """What a user should know about an exception that is a fault of the machine.

    Args:
        error: Any exception.

    Returns:
        One paragraph with the remedy; None where the exception is no fault of the machine.
    """
    if isinstance(error, MemoryError):
        return f"Memory did not suffice ({error}): lower evaluation.batch_size, or run fewer jobs at a time. {AGAIN}"
    if isinstance(error, OSError) and error.errno in _DISK:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{_DISK[error.errno]}. {AGAIN}"
    if isinstance(error, RuntimeError):
        from oodcert.runtime.memory import is_out_of_memory

        first = str(error).splitlines()[0] if str(error) else ""
        if is_out_of_memory(error):
            return (
                f"A batch does not fit in memory, and can't be halved ({first}): lower the batch_size of the "
                f"evaluation or training if it has one, run fewer jobs at a time, or use a larger device. {AGAIN}"
            )
        if any(sign in first for sign in _GPU_SIGNS) and not any(sign in first for sign in _DEFECT_SIGNS):
            return f"The GPU failed ({first}): see that nvidia-smi finds it. {AGAIN}"
    return None


def check_writable(*folders: str | Path) -> None:
    """Checks that files can be created in folders.

    Args:
        folders: Each exists, or would be created in a folder that does.

    Raises:
        InputError: No file can be created in one of them.
    """
    for folder in map(Path, folders):
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise InputError(
                f"{existing}: no file can be written in it. Make it one that you may write to, or run in another one "
                "(`snakemake --directory`)."
            )
