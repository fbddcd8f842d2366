"""Untrusted archives, read member by member: nothing of them is ever written to disk."""

from __future__ import annotations

import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, cast

from oodcert.errors import InputError

MAX_MEMBERS = 1_000_000
MAX_BYTES = 16 * 2**30  # unpacked; the largest set, Tiny ImageNet, has 130,000 members, the textures 640 MB
MAX_RATIO = 100  # unpacked to packed, of archives that unpack to more than
HARMLESS = 64 * 2**20  # bytes
CHUNK = 2**20

Kind = Literal["file", "folder", "other"]
Member = tuple[str, Kind, Callable[[], bytes]]  # name, kind, and what reads it

BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError)


def _any(name: PurePosixPath) -> bool:
    return True


def members(path: str | Path, wanted: Callable[[PurePosixPath], bool] = _any) -> Iterator[tuple[PurePosixPath, bytes]]:
    """The wanted files of an archive, one after another, in its order. Folders are passed over.

    Args:
        path: a zip, tar or tar.gz file.
        wanted: whether to read the file of this name.

    Yields:
        Name and content.

    Raises:
        InputError: if anything in the archive, wanted or not, is neither a regular file nor a folder, or has a name
            that is absolute, leads out of a folder or occurs twice; if the archive is damaged or cut off; if it
            unpacks to more than MAX_MEMBERS members, MAX_BYTES bytes or, beyond HARMLESS bytes, MAX_RATIO times its
            size. A fault may come to light only after the files before it have been yielded.
    """
    path = Path(path)
    seen: set[PurePosixPath] = set()
    try:
        limit = unpacked_limit(path)
        for member, kind, read in _zip_members(path, limit) if _starts(path, b"PK") else _tar_members(path, limit):
            name = PurePosixPath(member)
            if kind == "other":
                raise InputError(f"{path}: {member!r} in it is a link or a device. {_REMEDY}")
            if name.is_absolute() or ".." in name.parts or "\\" in member:
                raise InputError(f"{path}: the name {member!r} in it leads out of its folder. {_REMEDY}")
            if name in seen and kind == "file":
                raise InputError(f"{path}: {member!r} is in it twice. {_REMEDY}")
            seen.add(name)
            if len(seen) > MAX_MEMBERS:
                raise InputError(f"{path}: more than {MAX_MEMBERS} members. {_REMEDY}")
            if kind == "file" and wanted(name):
                yield name, read()
    except InputError:
        raise
    except BROKEN as error:
        raise InputError(
            f"{path}: not a whole zip, tar or tar.gz file ({error}). Delete it and fetch it again."
        ) from error


def unpacked_limit(path: str | Path) -> int:
    """The bytes that a file may unpack to."""
    return min(MAX_BYTES, max(HARMLESS, MAX_RATIO * Path(path).stat().st_size))


_REMEDY = "No image set needs that: delete the file, and fetch it from its official source."


def _starts(path: Path, magic: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def _zip_members(path: Path, limit: int) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > limit:
            raise _too_large(path, limit)
        for member in archive.infolist():
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile(f"{member.filename!r} is packed in a rare way")
            mode = stat.S_IFMT(member.external_attr >> 16)
            kind: Kind = "folder" if member.is_dir() else "file"
            yield (
                member.filename,
                kind if mode in (0, stat.S_IFREG, stat.S_IFDIR) else "other",
                partial(archive.read, member),
            )


def _tar_members(path: Path, limit: int) -> Iterator[Member]:
    with gzip.open(path, "rb") if _starts(path, b"\x1f\x8b") else open(path, "rb") as packed:
        stream = _Limited(cast(BinaryIO, packed), path, limit)
        with tarfile.open(fileobj=cast(Any, stream), mode="r|") as archive:  # which reads it, and does nothing else
            for member in archive:
                if member.size > limit:
                    raise _too_large(path, limit)
                kind: Kind = "folder" if member.isdir() else "other"
                if member.isreg() and not member.issparse():
                    kind = "file"
                yield member.name, kind, partial(_extract, archive, member)
        while stream.read(CHUNK):  # to the end, where gzip has its checksum
            pass
        if stream.tail.strip(b"\0") or len(stream.tail) < len(_END):
            raise EOFError("no end mark")


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None, "a regular file"
    return file.read()


class _Limited:
    """A stream that ends with an error beyond `limit` bytes, and keeps its last bytes in `tail`."""

    def __init__(self, stream: BinaryIO, path: Path, limit: int) -> None:
        self.stream, self.path, self.limit, self.count, self.tail = stream, path, limit, 0, b""

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.count += len(data)
        if self.count > self.limit:
            raise _too_large(self.path, self.limit)
        self.tail = (self.tail + data)[-len(_END) :]
        return data


_END = bytes(2 * tarfile.BLOCKSIZE)  # of a tar file


def _too_large(path: Path, limit: int) -> InputError:
    return InputError(f"{path}: it unpacks to more than {limit} bytes. {_REMEDY}")
