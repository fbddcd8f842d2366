"""Files that are either complete or absent."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path to write, which becomes `path` if the block succeeds and vanishes if it raises.

    The temporary file lies in the folder of `path`, which is created where missing, and has the same suffix. Until the
    block has ended, an existing `path` is untouched. The bytes are on the disk before the name is, so that a power cut
    too leaves the old file or the new one. The temporary file of a killed process has the same name and is replaced by
    the next writer, so a path must have one writer at a time.

    Args:
        path: Of the file.

    Yields:
        The temporary path, to be written by the block.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file.

    Args:
        path: Of the file.

    Returns:
        64 hexadecimal digits.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
