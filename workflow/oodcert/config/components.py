"""The parts that methods are made of: one training file each, and what it declares about itself."""

import ast
from dataclasses import dataclass, field
from functools import cache

from oodcert import paths
from oodcert.errors import InputError

DECLARED = {"SETTINGS": "settings", "NEEDS": "needs", "EXTRA_OUTPUTS": "extra_outputs", "BOUNDED": "bounded"}


@dataclass(frozen=True)
class Part:
    """What a training file declares as literals at its top level.

    settings (SETTINGS, which makes the file a part): its own settings in the config, name -> name of a type under
    $defs of the config's schema; needs (NEEDS): parts that must be trained before it; extra_outputs (EXTRA_OUTPUTS):
    outputs of its network beyond the number of classes; bounded (BOUNDED): whether it is trained on interval bounds,
    which a network with batch norm has none of in training.
    """

    settings: dict = field(default_factory=dict)
    needs: tuple = ()
    extra_outputs: int = 0
    bounded: bool = False


@cache
def known_components():
    """name -> Part of every training file. The files are read, not imported, for importing torch takes seconds."""
    found = {}
    for path in sorted(paths.TRAINING.glob("*.py")):
        literals = _literals(path)
        if "settings" in literals:
            found[path.stem] = Part(**literals)
    return found


def _literals(path):
    """field of Part -> value, of the names in DECLARED that a file assigns at its top level."""
    found, name = {}, None
    try:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
                if name in DECLARED:
                    found[DECLARED[name]] = ast.literal_eval(node.value)
    except SyntaxError as error:
        raise InputError(f"{path} is not Python ({error.msg}, line {error.lineno}): correct it.") from error
    except ValueError as error:
        raise InputError(f"{path}: {name} must be a literal, for it is read without running the file.") from error
    return found


def declared(name):
    """The Part of that name. Raises InputError where there is no such training file."""
    if name not in known_components():
        raise InputError(
            f"There is no part {name!r}: workflow/oodcert/training holds {', '.join(known_components())}. "
            "Name one of them, or add a file with its training."
        )
    return known_components()[name]
