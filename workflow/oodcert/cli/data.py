"""`oodcert data`: the image sets of the registry, listed, fetched and verified."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from oodcert.cli.arguments import Commands, Help
from oodcert.data.registry import Entry, registry
from oodcert.errors import InputError

DESCRIPTION = """The image sets of data/registry.csv. Downloads are resumed, and verified against the checksums of their
sources. docs/data.md says where each set comes from.

exit codes: 0 done, 1 something failed, 2 wrong usage, 130 interrupted."""
COLUMNS = ("set", "split", "status", "where", "licence", "note")
WIDTHS = (None, None, None, None, 24, 48)  # characters


def add_arguments(commands: Commands) -> None:
    """Adds the command to those of the parser."""
    data = commands.add_parser(
        "data", help="image sets of the registry: list, fetch, verify", description=DESCRIPTION, formatter_class=Help
    )
    actions = data.add_subparsers(dest="action", required=True, metavar="action")
    described = {
        "list": "every set: where it is, its size, licence and status",
        "fetch": "download sets from their official sources; what is there is verified and kept",
        "verify": "compare everything that is there with its checksums: OK, corrupt, absent or unpinned",
    }
    for name, text in described.items():
        action = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", formatter_class=Help)
        if name != "list":
            many = "+" if name == "fetch" else "*"
            action.add_argument("names", metavar="SET", nargs=many, help="names of sets, or all")
        action.add_argument("--folder", metavar="DIR", default="data/downloads", help="folder of the downloads")
        if name == "list":
            action.add_argument("--mirror", metavar="DIR", help="a local mirror to look in as well")
    data.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Runs options.action.

    Args:
        options: the parsed arguments of the command.

    Raises:
        InputError: on an unknown set, and at the end if any set failed.
    """
    {"list": list_sets, "fetch": fetch_sets, "verify": verify_sets}[options.action](options)


def list_sets(options: argparse.Namespace) -> None:
    """Prints a row a set and split."""
    from tabulate import tabulate

    rows = [
        (entry.set, entry.split, entry.status, where(entry, options.folder, options.mirror), entry.licence, entry.note)
        for entry in registry().values()
    ]
    print(tabulate(rows, COLUMNS, maxcolwidths=list(WIDTHS)))


def where(entry: Entry, folder: str | Path, mirror: str | None) -> str:
    """Where the images are, or that they have to be fetched; with the file's size where it is known."""
    from oodcert.data.sources import mirror_file

    path, mirrored = Path(folder) / entry.file, mirror_file(entry, mirror)
    if mirrored:  # which the workflow prefers
        return f"mirror, {megabytes(mirrored.stat().st_size)}"
    if entry.file and path.is_file():
        return f"downloaded, {megabytes(path.stat().st_size)}"
    if entry.status == "unavailable":
        return "nowhere"
    return f"to fetch, {megabytes(entry.bytes)}" if entry.bytes else "to fetch"


def megabytes(size: int) -> str:
    """A number of bytes as people read it."""
    return f"{size / 1e6:.1f} MB"


def fetch_sets(options: argparse.Namespace) -> None:
    """Fetches every file of the named sets, all of them even if some fail.

    Args:
        options: the parsed arguments of the command.

    Raises:
        InputError: at the end, if any failed.
    """
    from oodcert.data.download import fetch

    files: dict[str, Entry] = {}
    failed = []
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


def verify_sets(options: argparse.Namespace) -> None:
    """Prints a row a file: OK, corrupt, absent, or unpinned (as first seen, but its source states no checksum).

    Args:
        options: the parsed arguments of the command.

    Raises:
        InputError: at the end, if any is corrupt.
    """
    from tabulate import tabulate

    from oodcert.data.download import is_pinned, verify

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


def named(names: Iterable[str]) -> list[Entry]:
    """The registry's entries of the sets, of every one for "all".

    Args:
        names: of sets, or "all".

    Returns:
        The entries, in the order of the registry.

    Raises:
        InputError: on an unknown name.
    """
    known = list(dict.fromkeys(entry.set for entry in registry().values()))
    for name in names:
        if name not in (*known, "all"):
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}, or all"
            raise InputError(f"data/registry.csv has no set {name!r} ({hint}).")
    return [entry for entry in registry().values() if entry.set in names or "all" in names]
