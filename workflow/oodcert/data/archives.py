"""Archives from strangers, read member by member: nothing of them is ever written to disk."""

import gzip
import stat
import tarfile
import zipfile
import zlib
from functools import partial
from pathlib import Path, PurePosixPath

from oodcert.errors import InputError

MAX_MEMBERS = 1_000_000
MAX_BYTES = 16 * 2**30  # unpacked; the largest set, Tiny ImageNet, has 130,000 members, the textures 640 MB
MAX_RATIO = 100  # unpacked to packed, of archives that unpack to more than
HARMLESS = 64 * 2**20  # bytes
CHUNK = 2**20

BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError)


def members(path, wanted=lambda name: True):
    """Yields (name, bytes) of the wanted files of a zip, tar or tar.gz file, in its order.

    wanted: from the name, a PurePosixPath, to whether to read it. Directories are passed over. Raises InputError where
    anything in the archive, wanted or not, is neither a regular file nor a directory, has a name that is absolute,
    leads out of a folder or occurs twice, or where the archive is damaged or cut off, or unpacks to more than
    MAX_MEMBERS members, MAX_BYTES bytes or, beyond HARMLESS, MAX_RATIO times its size. A fault may come to light only
    after files before it have been yielded.
    """
    path = Path(path)
    seen = set()
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


def unpacked_limit(path):
    """The bytes that a file may unpack to."""
    return min(MAX_BYTES, max(HARMLESS, MAX_RATIO * Path(path).stat().st_size))


_REMEDY = "No image set needs that: delete the file, and fetch it from its official source."


def _starts(path, magic):
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def _zip_members(path, limit):
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > limit:
            raise _too_large(path, limit)
        for member in archive.infolist():
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile(f"{member.filename!r} is packed in a rare way")
            mode = stat.S_IFMT(member.external_attr >> 16)
            kind = "folder" if member.is_dir() else "file"
            yield (
                member.filename,
                kind if mode in (0, stat.S_IFREG, stat.S_IFDIR) else "other",
                partial(archive.read, member),
            )


def _tar_members(path, limit):
    with (gzip.open if _starts(path, b"\x1f\x8b") else open)(path, "rb") as packed:
        stream = _Limited(packed, path, limit)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if member.size > limit:
                    raise _too_large(path, limit)
                kind = "file" if member.isreg() and not member.issparse() else "folder" if member.isdir() else "other"
                yield member.name, kind, partial(_extract, archive, member)
        while stream.read(CHUNK):  # to the end, where gzip has its checksum
            pass
        if stream.tail.strip(b"\0") or len(stream.tail) < len(_END):
            raise EOFError("no end mark")


def _extract(archive, member):
    return archive.extractfile(member).read()


class _Limited:
    """A stream that ends with an error beyond `limit` bytes, and keeps its last bytes in `tail`."""

    def __init__(self, stream, path, limit):
        self.stream, self.path, self.limit, self.count, self.tail = stream, path, limit, 0, b""

    def read(self, size):
        data = self.stream.read(size)
        self.count += len(data)
        if self.count > self.limit:
            raise _too_large(self.path, self.limit)
        self.tail = (self.tail + data)[-len(_END) :]
        return data


_END = bytes(2 * tarfile.BLOCKSIZE)  # of a tar file


def _too_large(path, limit):
    return InputError(f"{path}: it unpacks to more than {limit} bytes. {_REMEDY}")
