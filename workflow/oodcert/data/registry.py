"""The registry: where image sets come from. One row of data/registry.csv a set and split."""

import csv
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from oodcert.errors import InputError

REGISTRY = Path(__file__).parents[3] / "data" / "registry.csv"
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
    try:
        with open(REGISTRY, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{REGISTRY}: unreadable ({error}). Restore it from the repository.") from error
    found = {}
    for number, row in enumerate(rows, 2):
        entry = _entry(row, number)
        if (entry.set, entry.split) in found:
            raise InputError(f"{REGISTRY}, line {number}: {entry.set} {entry.split} is there twice. Remove one.")
        found[entry.set, entry.split] = entry
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


def _entry(row, number):
    names = [field.name for field in fields(Entry)]
    if list(row) != names or None in row.values():
        raise InputError(f"{REGISTRY}, line {number}: not the columns {', '.join(names)}. Correct the line.")
    for column, allowed in (("split", ("train", "test")), ("status", STATUSES), ("mirror_encoding", ENCODINGS)):
        if row[column] not in allowed:
            raise InputError(f"{REGISTRY}, line {number}: {column} is {row[column]!r}, not one of {allowed}.")
    if row["bytes"] and not row["bytes"].isdecimal():
        raise InputError(f"{REGISTRY}, line {number}: bytes is {row['bytes']!r}, not a number.")
    return Entry(**{**row, "urls": tuple(row["urls"].split()), "bytes": int(row["bytes"]) if row["bytes"] else None})
