"""The registry: where image sets come from. One row of data/registry.csv a set and split."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from oodcert import paths
from oodcert.errors import InputError

REGISTRY = paths.DATA_TABLES / "registry.csv"
STATUSES = ("available", "unavailable")
ENCODINGS = ("", "lossless", "jpeg75")


@dataclass(frozen=True)
class Entry:
    """A split of an image set: a file to download, and a file of a local mirror. Either of them holds its images.

    Attributes:
        set: name of the set.
        split: "train" or "test".
        file: name of the file among the downloads.
        urls: addresses of the file, the official source first.
        bytes: size of the file; None if its source does not state it.
        sha256: its checksum; "" if its source does not state it.
        md5: the same.
        mirror: path, within a mirror (data_mirror of the config), of an npz file (see `ImageSet.load`) of the set or,
            if the note says so, of some of its images.
        mirror_sha256: checksum of that file.
        mirror_encoding: "lossless", or "jpeg75": its pixels have been through JPEG of quality 75.
        licence: as the source states it.
        status: "available", or "unavailable" for download.
        note: what else there is to know, such as why the set is unavailable.
    """

    set: str
    split: str
    file: str
    urls: tuple[str, ...]
    bytes: int | None
    sha256: str
    md5: str
    mirror: str
    mirror_sha256: str
    mirror_encoding: str
    licence: str
    status: str
    note: str


Row = TypeVar("Row")


@cache
def registry() -> dict[tuple[str, ...], Entry]:
    """All rows of data/registry.csv.

    Returns:
        (set, split) -> Entry.
    """
    allowed = {"split": ("train", "test"), "status": STATUSES, "mirror_encoding": ENCODINGS}
    return read_rows(REGISTRY, Entry, ("set", "split"), allowed)


def read_rows(
    path: Path, kind: type[Row], keys: Sequence[str], allowed: Mapping[str, Sequence[str]]
) -> dict[tuple[str, ...], Row]:
    """The rows of a csv file of remote files. The column urls becomes a tuple, bytes a number or None.

    Args:
        path: the csv file.
        kind: a dataclass with a field for each column, in their order.
        keys: columns that tell the rows apart.
        allowed: column -> the values that it may have.

    Returns:
        Values of `keys` -> row.

    Raises:
        InputError: if the file is not such a table, has a key twice, or names a file that lies in another folder.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            header, rows = reader.fieldnames, list(enumerate(reader, 2))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: unreadable ({error}). Restore it from the repository.") from error
    names = [field.name for field in fields(cast(Any, kind))]
    if header != names:
        raise InputError(f"{path}, line 1: not the columns {', '.join(names)}. Correct the line.")
    entries: dict[tuple[str, ...], Row] = {}
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
        if key in entries:
            raise InputError(f"{path}, line {number}: {' '.join(key)} is there twice. Remove one.")
        size = int(row["bytes"]) if row["bytes"] else None
        entries[key] = kind(**{**row, "urls": tuple(row["urls"].split()), "bytes": size})
    return entries


def entry_of(name: str, split: str) -> Entry:
    """The Entry of a set and split.

    Args:
        name: of the set.
        split: "train" or "test".

    Returns:
        The Entry.

    Raises:
        InputError: if there is none, naming the sets that have that split.
    """
    if (name, split) not in registry():
        known = sorted(known for known, other in registry() if other == split)
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
        raise InputError(
            f"There are no {split} images of a set {name!r} in data/registry.csv, nor bundled ones ({hint}). "
            "Images of your own go under data.own of the config."
        )
    return registry()[name, split]
