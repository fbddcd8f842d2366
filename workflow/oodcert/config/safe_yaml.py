"""Untrusted YAML files: plain values, every key once, and no more of them than a config needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from oodcert.errors import InputError

MAX_CHARACTERS = 200_000
MAX_VALUES = 20_000  # an alias counts as everything that it stands for
MAX_DEPTH = 30
MAX_BITS = 1000  # of a whole number


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds: dicts, lists, strings, numbers, booleans, dates, None. No tag makes anything else.

    Args:
        path: of the file.

    Returns:
        The content.

    Raises:
        InputError: if the file is unreadable, has a key twice in one place, contains itself, or is larger than
            MAX_CHARACTERS, MAX_VALUES or MAX_DEPTH.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
        if len(text) > MAX_CHARACTERS:
            raise _Fault(f"it has over {MAX_CHARACTERS} characters")
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node)
        return loader.construct_document(node)
    except _Fault as fault:
        raise InputError(
            f"{path}: {fault}. Correct it, or write a file that is as plain as config/config.yaml."
        ) from None
    except Exception as error:  # PyYAML raises many kinds on broken numbers, dates and tags
        cause = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not a readable YAML file ({cause}). Check its path and syntax.") from error


def oversized(value: Any) -> str:
    """What makes a value, of dicts and lists, too large to be looked at; "" if nothing does."""
    waiting, count = [(value, 1)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > MAX_VALUES:
            return f"it holds over {MAX_VALUES} values"
        if depth > MAX_DEPTH:
            return f"it is nested deeper than {MAX_DEPTH} levels"
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            return f"it holds a whole number of over {MAX_BITS} bits"
        children = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
        waiting += [(child, depth + 1) for child in children]
    return ""


class _Fault(Exception):
    """What is wrong with a document."""


def _check(document: yaml.Node) -> None:
    """Whether it can be made into values. No alias is followed twice."""
    sizes: dict[int, tuple[int, int] | None] = {}  # values and levels of each node; None while they are being counted

    def measure(node: yaml.Node) -> tuple[int, int]:
        if id(node) not in sizes:
            sizes[id(node)] = None
            children = node.value if isinstance(node, yaml.CollectionNode) else []
            if isinstance(node, yaml.MappingNode):
                _check_keys(children)
                children = [one for pair in children for one in pair]
            below = [measure(child) for child in children]
            sizes[id(node)] = (
                1 + sum(values for values, _ in below),
                1 + max((levels for _, levels in below), default=0),
            )
        size = sizes[id(node)]
        if size is None:
            raise _Fault("it contains itself")
        return size

    values, levels = measure(document)
    if values > MAX_VALUES:
        raise _Fault(f"it holds over {MAX_VALUES} values")
    if levels > MAX_DEPTH:
        raise _Fault(f"it is nested deeper than {MAX_DEPTH} levels")


def _check_keys(pairs: Sequence[tuple[yaml.Node, yaml.Node]]) -> None:
    seen: set[tuple[str, str]] = set()
    for key in (key for key, _ in pairs if isinstance(key, yaml.ScalarNode)):
        if (key.tag, key.value) in seen:
            raise _Fault(f"the key {key.value!r} is there a second time, in line {key.start_mark.line + 1}")
        seen.add((key.tag, key.value))
