"""`oodcert data`: the image sets of the registry, listed, fetched and verified."""

import sys
from difflib import get_close_matches
from pathlib import Path

from tabulate import tabulate

from oodcert.data.download import fetch, is_pinned, verify
from oodcert.data.registry import registry
from oodcert.data.sources import in_mirror
from oodcert.errors import InputError

COLUMNS = ("set", "split", "status", "where", "licence", "note")
WIDTHS = (None, None, None, None, 24, 48)  # characters


def run(options):
    """Runs options.action. Raises InputError on an unknown set, and at the end if any set failed."""
    {"list": list_sets, "fetch": fetch_sets, "verify": verify_sets}[options.action](options)


def list_sets(options):
    """Prints a row a set and split."""
    rows = [
        (entry.set, entry.split, entry.status, where(entry, options.folder, options.mirror), entry.licence, entry.note)
        for entry in registry().values()
    ]
    print(tabulate(rows, COLUMNS, maxcolwidths=list(WIDTHS)))


def where(entry, folder, mirror):
    """Where the images are, or that they have to be fetched; with the file's size where it is known."""
    path = Path(folder) / entry.file
    if in_mirror(entry, mirror):  # which the workflow prefers
        return f"mirror, {megabytes((Path(mirror) / entry.mirror).stat().st_size)}"
    if entry.file and path.is_file():
        return f"downloaded, {megabytes(path.stat().st_size)}"
    if entry.status == "unavailable":
        return "nowhere"
    return f"to fetch, {megabytes(entry.bytes)}" if entry.bytes else "to fetch"


def megabytes(size):
    """A number of bytes as people read it."""
    return f"{size / 1e6:.1f} MB"


def fetch_sets(options):
    """Fetches every file of the named sets, all of them even if some fail."""
    files, failed = {}, []
    for entry in named(options.names):
        if entry.status == "unavailable" and "all" not in options.names:
            failed.append(entry.set)
            print(f"{entry.set}: can't be downloaded: {entry.note}. See docs/data.md.", file=sys.stderr)
        elif entry.status == "available":
            files[entry.file] = entry
    for entry in files.values():
        try:
            print(f"{entry.set}: {fetch(entry, options.folder)}")
        except InputError as error:
            failed.append(entry.set)
            print(f"{entry.set}: {error}", file=sys.stderr)
    if failed:
        raise InputError(f"not fetched: {', '.join(failed)}. The reasons are above.")


def verify_sets(options):
    """Prints a row a file: OK, corrupt, absent, or unpinned (as first seen, but no checksum of it is published)."""
    rows, corrupt = [], []
    for entry in {entry.file: entry for entry in named(options.names or ["all"]) if entry.file}.values():
        path = Path(options.folder) / entry.file
        if not path.is_file():
            rows.append((entry.set, path, "absent"))
            continue
        try:
            verify(path, entry)
            rows.append((entry.set, path, "OK" if is_pinned(entry) else "unpinned"))
        except InputError as error:
            corrupt.append(str(error))
            rows.append((entry.set, path, "corrupt"))
    print(tabulate(rows, ("set", "file", "state")))
    if corrupt:
        raise InputError(" ".join(corrupt))


def named(names):
    """The registry's entries of the sets, of every one for "all". Raises InputError on an unknown name."""
    known = list(dict.fromkeys(entry.set for entry in registry().values()))
    for name in names:
        if name not in (*known, "all"):
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}, or all"
            raise InputError(f"data/registry.csv has no set {name!r} ({hint}).")
    return [entry for entry in registry().values() if entry.set in names or "all" in names]
