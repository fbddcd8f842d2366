"""The registry: where image sets come from. One row of data/registry.csv a set and split."""

import csv
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from oodcert import paths
from oodcert.errors import InputError

REGISTRY = paths.DATA_TABLES / "registry.csv"
STATUSES = ("available", "unavailable")
ENCODINGS = ("", "lossless", "jpeg75")


@dataclass(frozen=True)
class Entry:
    """A split of an image set: a file to download, or a file of a local mirror, either of which holds its images.

    file: its name among the downloads; urls: the official source first; bytes, sha256, md5: of that file, None or ""
    where nobody has published them. mirror, mirror_sha256: path within a mirror (data_mirror of the config) of an npz
    file (see `ImageSet.load`) of the set or, as the note says, of a part of it; mirror_encoding: "lossless", or
    "jpeg75" where its pixels have been through JPEG of quality 75. status: "available", or "unavailable" for download.
    """

    set: str
    split: str
    file: str
    urls: tuple
    bytes: int | None
    sha256: str
    md5: str
    mirror: str
    mirror_sha256: str
    mirror_encoding: str
    licence: str
    status: str
    note: str


@cache
def registry():
    """(set, split) -> Entry, of all rows. Raises InputError where the file is not such a table."""
    allowed = {"split": ("train", "test"), "status": STATUSES, "mirror_encoding": ENCODINGS}
    return read_rows(REGISTRY, Entry, ("set", "split"), allowed)


def read_rows(path, kind, keys, allowed):
    """The rows of a csv file, as instances of a dataclass of its columns: by the values of `keys`.

    urls becomes a tuple, bytes a number or None. allowed: column -> the values it may have. Raises InputError where the
    file is not such a table, has a key twice, or names a file outside its folder.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            header, rows = reader.fieldnames, list(enumerate(reader, 2))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: unreadable ({error}). Restore it from the repository.") from error
    names = [field.name for field in fields(kind)]
    if header != names:
        raise InputError(f"{path}, line 1: not the columns {', '.join(names)}. Correct the line.")
    found = {}
    for number, row in rows:
        if list(row) != names or None in row.values():
            raise InputError(f"{path}, line {number}: not the columns {', '.join(names)}. Correct the line.")
        for column, values in allowed.items():
            if row[column] not in values:
                raise InputError(f"{path}, line {number}: {column} is {row[column]!r}, not one of {values}.")
        if row["bytes"] and not row["bytes"].isdecimal():
            raise InputError(f"{path}, line {number}: bytes is {row['bytes']!r}, not a number.")
        if row["file"] != Path(row["file"]).name or {"..", "/"} & {row["file"], *Path(row.get("mirror", "")).parts}:
            raise InputError(f"{path}, line {number}: names a file outside its folder. Correct file or mirror.")
        key = tuple(row[name] for name in keys)
        if key in found:
            raise InputError(f"{path}, line {number}: {' '.join(key)} is there twice. Remove one.")
        size = int(row["bytes"]) if row["bytes"] else None
        found[key] = kind(**{**row, "urls": tuple(row["urls"].split()), "bytes": size})
    return found


def entry_of(name, split):
    """The Entry of a set and split. Raises InputError, with the sets that have that split, where there is none."""
    if (name, split) not in registry():
        known = sorted(known for known, other in registry() if other == split)
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
        raise InputError(
            f"There are no {split} images of a set {name!r} in data/registry.csv, nor bundled ones ({hint}). "
            "Images of your own go under data.own of the config."
        )
    return registry()[name, split]
