"""What the commands share: the form of their help, and types of arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from math import inf
from typing import TypeAlias, TypeVar

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
T = TypeVar("T", int, float)


class Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help with the text of descriptions as it is written, and with defaults but for None and False."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        plain = action.default is None or action.default is False
        return action.help if plain else super()._get_help_string(action)


def printable(text: str) -> str:
    """The text with the characters that would command a terminal, as names of files can, written out."""
    return "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)


def _number(name: str, kind: type[T], valid: Callable[[T], bool]) -> Callable[[str], T]:
    """An argparse type: the number, or a usage error that names what is needed."""

    def convert(text: str) -> T:
        value = kind(text)
        if not valid(value):
            raise ValueError
        return value

    convert.__name__ = name
    return convert


POSITIVE_INT = _number("positive whole number", int, lambda value: value > 0)
POSITIVE = _number("positive number", float, lambda value: 0 < value < inf)
RADIUS = _number("radius", float, lambda value: 0 <= value < inf)
ALPHA = _number("error probability below 1/2", float, lambda value: 0 < value < 0.5)
CONFIDENCE = _number("confidence between 0 and 1", float, lambda value: 0 < value < 1)
