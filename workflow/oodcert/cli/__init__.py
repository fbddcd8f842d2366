"""The command line: a module each command, with its arguments and run(options)."""

from oodcert.cli.main import main

__all__ = ["main"]
