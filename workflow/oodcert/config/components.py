"""The components that methods are made of: one training file each, and what it declares about itself."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from oodcert import paths
from oodcert.errors import InputError

DECLARED = {"SETTINGS": "settings", "NEEDS": "needs", "EXTRA_OUTPUTS": "extra_outputs", "BOUNDED": "bounded"}


@dataclass(frozen=True)
class Component:
    """What a training file declares as literals at its top level.

    Attributes:
        settings: SETTINGS, which makes the file a component: its settings in the config, name -> name of a type
            (see oodcert.config.models.SETTING_TYPES).
        needs: NEEDS, components that must be trained before it.
        extra_outputs: EXTRA_OUTPUTS, outputs of its network beyond the number of classes.
        bounded: BOUNDED, whether it is trained on interval bounds. Then its network may have no batch norm.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    extra_outputs: int = 0
    bounded: bool = False


@cache
def known_components() -> dict[str, Component]:
    """The Component of every training file. The files are read, not imported: importing torch takes seconds.

    Returns:
        The components by name.
    """
    components = {}
    for path in sorted(paths.TRAINING.glob("*.py")):
        literals = _literals(path)
        if "settings" in literals:
            components[path.stem] = Component(**literals)
    return components


def declared_component(name: str) -> Component:
    """The Component of that name.

    Args:
        name: of a file in workflow/oodcert/training, without its suffix.

    Returns:
        What the file declares.

    Raises:
        InputError: if there is no such training file.
    """
    if name not in known_components():
        raise InputError(
            f"There is no component {name!r}: workflow/oodcert/training holds {', '.join(known_components())}. "
            "Name one of them, or add a file with its training."
        )
    return known_components()[name]


def _literals(path: Path) -> dict[str, Any]:
    """Field of Component -> value, of the names in DECLARED that a file assigns at its top level."""
    literals, name = {}, None
    try:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
                if name in DECLARED and node.value is not None:
                    literals[DECLARED[name]] = ast.literal_eval(node.value)
    except SyntaxError as error:
        raise InputError(f"{path} is not Python ({error.msg}, line {error.lineno}): correct it.") from error
    except ValueError as error:
        raise InputError(f"{path}: {name} must be a literal, for it is read without running the file.") from error
    return literals
