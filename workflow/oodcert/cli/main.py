"""The command line: arguments in, exit codes out. It imports no torch before a command runs: --help is instant."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from oodcert.cli import audit, certify, cost, data
from oodcert.cli.arguments import printable
from oodcert.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: its words; None: those of the process.

    Returns:
        0 when done, 1 after InputError or OSError, 130 after Ctrl-C. Wrong usage ends the process with 2.
    """
    options = parser().parse_args(argv)
    try:
        options.run(options)
    except InputError as error:
        print(f"oodcert: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 1
    except OSError as error:
        cause = printable(" ".join(str(error).split()))
        print(f"oodcert: {cause}. Check path, permissions and disk space: the same command resumes.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("oodcert: interrupted. The same command resumes where it stopped.", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser("oodcert", description="Certified out-of-distribution detection for any network.")
    top.add_argument("--version", action="version", version=f"oodcert {_version()}")
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    for module in (certify, data, cost, audit):
        module.add_arguments(commands)
    return top


def _version() -> str:
    """The version that is installed."""
    try:
        return version("oodcert")
    except PackageNotFoundError:
        return "(not installed: its version is that of the folder it lies in)"
