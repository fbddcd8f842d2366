"""The parts that methods are made of: one training file each, and what it declares about itself."""

import ast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from oodcert.errors import InputError

FOLDER = Path(__file__).parent / "training"
DECLARED = {"SETTINGS": "settings", "NEEDS": "needs", "EXTRA_OUTPUTS": "extra_outputs"}


@dataclass(frozen=True)
class Part:
    """What a training file declares as literals at its top level.

    settings (SETTINGS, which makes the file a part): its own settings in the config, name -> name of a type under
    $defs of the config's schema; needs (NEEDS): parts that must be trained before it; extra_outputs (EXTRA_OUTPUTS):
    outputs of its network beyond the number of classes.
    """

    settings: dict = field(default_factory=dict)
    needs: tuple = ()
    extra_outputs: int = 0


@cache
def known_parts():
    """name -> Part of every training file. The files are read, not imported, for importing torch takes seconds."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        literals = {
            DECLARED[node.targets[0].id]: ast.literal_eval(node.value)
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in DECLARED
        }
        if "settings" in literals:
            found[path.stem] = Part(**literals)
    return found


def declared(name):
    """The Part of that name. Raises InputError where there is no such training file."""
    if name not in known_parts():
        raise InputError(
            f"There is no part {name!r}: workflow/oodcert/training holds {', '.join(known_parts())}. "
            "Name one of them, or add a file with its training."
        )
    return known_parts()[name]
