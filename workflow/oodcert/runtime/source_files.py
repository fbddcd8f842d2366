"""The files of a user's code, which results rest on. None of it is run."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from oodcert.runtime.files import sha256

INSTALLED = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
IMPORTERS = ("__import__", "import_module", "importlib.import_module")


def source_files(module: str) -> list[Path]:
    """The files of a module and of all that it imports, as far as they are not those of installed packages.

    Imports are read from the source, also those within functions and `importlib.import_module("name")`; a name that is
    only known when the code runs is not seen. The current directory is importable. Of an installed module the files of
    its own package count, and those of no other one.

    Args:
        module: its dotted name.

    Returns:
        The files, sorted: sources, and compiled extensions.
    """
    package = module.partition(".")[0]
    waiting, files, seen = [module], set[Path](), set[str]()
    while waiting:
        name = waiting.pop()
        if not name or name in seen:
            continue
        seen.add(name)
        for spec in _specs(name):
            if spec.origin is None or not Path(spec.origin).is_file():
                continue
            path = Path(spec.origin)
            if path in files or (_is_installed(path) and spec.name.partition(".")[0] != package):
                continue
            files.add(path)
            waiting += _imports(path, spec)
    return sorted(files)


def code_sha256(modules: Iterable[str]) -> str:
    """SHA-256 of the source files of modules and of what they import.

    Args:
        modules: their dotted names.

    Returns:
        The checksum, in hexadecimal digits. It does not depend on where the files lie.
    """
    files = {path for module in modules for path in source_files(module)}
    content = sorted((path.name, sha256(path)) for path in files)
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _specs(name: str) -> Iterator[ModuleSpec]:
    """The specs of a module and of the packages around it, as far as there are any; nothing is imported."""
    places: Sequence[str] | None = [os.getcwd(), *sys.path]
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        try:
            spec = PathFinder.find_spec(".".join(parts[:count]), places)
        except (ImportError, ValueError, OSError):
            return
        if spec is None:
            return
        yield spec
        places = spec.submodule_search_locations
        if places is None:
            return


def _is_installed(path: Path) -> bool:
    return not INSTALLED.isdisjoint(path.resolve().parents) or "site-packages" in path.parts


def _imports(path: Path, spec: ModuleSpec) -> Iterator[str]:
    """Names that may be modules which a source imports."""
    if path.suffix != ".py":
        return
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    inside = spec.submodule_search_locations is not None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            steps = node.level - inside  # from the module's own name upwards
            parts = spec.name.split(".")
            around = parts[: len(parts) - steps] if node.level else []
            base = ".".join([*around, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in IMPORTERS:
            yield from (
                one.value for one in node.args[:1] if isinstance(one, ast.Constant) and isinstance(one.value, str)
            )
