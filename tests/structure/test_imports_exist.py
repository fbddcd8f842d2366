"""What is imported from the package exists, also where nothing is run: in benchmarks, pages, examples and scripts."""

import ast
import runpy

import pytest

import oodcert
from conftest import ROOT

STRUCTURE = runpy.run_path(str(ROOT / "docs" / "structure.py"))
IMPORTERS = ("tests/**/*.py", "benchmarks/**/*.py", "docs/*.py", "examples/**/*.py", "workflow/scripts/**/*.py")


@pytest.fixture(scope="module")
def names():
    """The names of each module of the package."""
    return names_of(STRUCTURE["read_package"](STRUCTURE["files_now"]()), oodcert.PUBLIC)


def names_of(modules, public=()):
    """Module -> the names that it binds at its top level, and its submodules; `public`: names of the package itself."""
    names = {module.name: set(bound(module.tree.body)) for module in modules}
    for name in list(names):
        parent, _, own = name.rpartition(".")
        if parent:
            names.setdefault(parent, set()).add(own)
    names["oodcert"].update(public)
    return names


def bound(body):
    """The names that statements bind, also those in the blocks of an if, a try or a with."""
    for node in body:
        if isinstance(node, (*STRUCTURE["FUNCTIONS"], ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
        else:
            blocks = [getattr(node, field, []) for field in ("body", "orelse", "finalbody")]
            blocks += [handler.body for handler in getattr(node, "handlers", [])]
            if not any(blocks):
                stored = (one for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store))
                yield from (one.id for one in stored)
            for block in blocks:
                yield from bound(block)


def missing(tree, names):
    """(line, what) of the imports from the package, wherever they stand, that lead nowhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            wanted = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        for module, name in wanted:
            if module.split(".")[0] != "oodcert":
                continue
            if module not in names:
                yield node.lineno, module
            elif name is not None and name not in names[module]:
                yield node.lineno, f"{module}.{name}"


@pytest.mark.parametrize("pattern", IMPORTERS)
def test_every_import_from_the_package_exists(pattern, names):
    paths = sorted(ROOT.glob(pattern))
    gone = [f"{path.relative_to(ROOT)}:{line}: {what}" for path in paths for line, what in missing(tree(path), names)]
    assert paths and not gone, "\n".join(["imports of what is not there:", *gone])


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def test_an_import_of_what_is_not_there_is_seen():
    files = {
        "__init__.py": "",
        "data/__init__.py": "",
        "data/folder.py": "import json\nif True:\n    A = 1\nelse:\n    B: int = 2\ndef load():\n    inner = 3\n",
    }
    names = names_of(STRUCTURE["read_package"](files), ["Detector"])
    assert names["oodcert.data.folder"] == {"json", "A", "B", "load"}
    text = """
import oodcert, oodcert.data.folder, oodcert.gone
from oodcert import Detector, data, missing
from oodcert.data import folder
def late():
    from oodcert.data.folder import A, B, load, inner
    from oodcert.old import works
"""
    assert [*missing(ast.parse(text), names)] == [
        (2, "oodcert.gone"),
        (3, "oodcert.missing"),
        (6, "oodcert.data.folder.inner"),
        (7, "oodcert.old"),
    ]
