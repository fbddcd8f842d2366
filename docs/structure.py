"""Counts the structure of the package, and declares its layers.

`python docs/structure.py REVISION...` prints a Markdown table with a column for each revision in git.
`python docs/structure.py` writes the table of docs/structure.md: revision BEFORE and the files as they are now.
tests/structure/ checks the package with the functions of this file.
"""

import ast
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/structure.md"
SOURCES = "workflow/oodcert"
BEFORE = "87cd367"
START, END = "<!-- table by docs/structure.py -->\n", "<!-- end -->"

# The layers: each package with those that lie directly below it. It may import these, and what lies below them.
LAYERS = {
    "errors": (),
    "paths": (),
    "runtime": ("errors", "paths"),
    "statistics": ("runtime",),
    "data": ("runtime",),
    "config": ("data",),
    "evidence": ("statistics", "config"),
    "models": ("config",),
    "certification": ("models",),
    "attacks": ("models",),
    "training": ("certification", "attacks"),
    "authors_code": ("certification", "attacks"),
    "evaluations": ("authors_code", "evidence"),
    "reporting": ("evaluations",),
    "audit": ("reporting",),
    "execution": ("audit", "training"),
    "oodcert": ("execution",),  # the public API: oodcert/__init__.py
    "cli": ("oodcert",),
    "__main__": ("cli",),
}

CONFIG_NAMES = {  # variables that hold a part of a config or of an evaluation's settings
    *("config", "_config", "settings", "data", "evaluation", "evaluations", "methods", "method_spec", "composition"),
    *("networks", "training", "recipe", "budget", "whole", "params", "attack", "certify", "certified", "pgd", "apgd"),
}
LONG = 60  # lines of a function without its docstring
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Module(NamedTuple):
    """A file of the package."""

    name: str  # oodcert.data.folder
    path: str  # data/folder.py
    package: str  # the folder or file directly under oodcert/: data
    tree: ast.Module


class Import(NamedTuple):
    """An import of one module of the package by another."""

    importer: Module
    line: int
    target: str  # the imported module
    package: str  # and its package
    when: str  # "import", "call" (inside a function) or "typing" (under TYPE_CHECKING)

    def __str__(self) -> str:
        return f"{self.importer.path}:{self.line} imports {self.target}"


class Function(NamedTuple):
    """A function or method, nested ones too."""

    place: str  # data/folder.py:12 load_images
    lines: int  # without the docstring
    untyped: list[str]  # arguments without a type, and "return"


def read_package(texts: dict[str, str]) -> list[Module]:
    """The modules of the package, from the text of each file by its path under oodcert/."""
    modules = []
    for path, text in sorted(texts.items()):
        parts = path.removesuffix(".py").split("/")
        name = ".".join(["oodcert", *parts]).removesuffix(".__init__")
        modules.append(Module(name, path, package_of(name), ast.parse(text)))
    return modules


def files_now() -> dict[str, str]:
    """The text of each file of the package as it is now."""
    folder = ROOT / SOURCES
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.py")}


def files_at(revision: str) -> dict[str, str]:
    """The text of each file of the package at a revision."""
    packed = subprocess.run(["git", "-C", ROOT, "archive", revision, SOURCES], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return {
            member.name.removeprefix(f"{SOURCES}/"): file.read().decode()
            for member in archive
            if member.name.endswith(".py") and (file := archive.extractfile(member))
        }


def package_of(module: str) -> str:
    """The package of a module by its name; of the public API: oodcert."""
    return [*module.split("."), "oodcert"][1]


def imports(modules: list[Module]) -> list[Import]:
    """The imports of modules of the package by others, once per importing file, target and time of import."""
    names = {module.name for module in modules}
    distinct: dict[tuple[str, str, str], Import] = {}
    for module in modules:
        for node, when in _with_time(module.tree):
            for target in _targets(node, module, names):
                if target != module.name:
                    one = Import(module, getattr(node, "lineno", 0), target, package_of(target), when)
                    distinct.setdefault((module.name, target, when), one)
    return list(distinct.values())


def between_packages(modules: list[Module]) -> list[Import]:
    """The imports across packages that run; those under TYPE_CHECKING do not."""
    return [one for one in imports(modules) if one.package != one.importer.package and one.when != "typing"]


def _with_time(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Every node, and when it runs: on "import", on a "call", or never, for "typing"."""
    pending: list[tuple[ast.AST, str]] = [(tree, "import")]
    while pending:
        node, when = pending.pop()
        yield node, when
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            pending += [(child, "typing") for child in node.body] + [(child, when) for child in node.orelse]
            continue
        if isinstance(node, (*FUNCTIONS, ast.Lambda)) and when == "import":
            when = "call"
        pending += [(child, when) for child in ast.iter_child_nodes(node)]


def _targets(node: ast.AST, module: Module, names: set[str]) -> list[str]:
    """The modules of the package that a node imports."""
    if isinstance(node, ast.Import):
        wanted = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        folder = module.name.split(".") if module.path.endswith("__init__.py") else module.name.split(".")[:-1]
        base = folder[: len(folder) + 1 - node.level] if node.level else []
        source = ".".join([*base, *([node.module] if node.module else [])])
        wanted = [f"{source}.{alias.name}" if f"{source}.{alias.name}" in names else source for alias in node.names]
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
        wanted = [_leading_text(node.args[0]).rstrip(".")]
    else:
        wanted = []
    return [target for target in wanted if target.split(".")[0] == "oodcert"]


def _leading_text(node: ast.expr) -> str:
    """The text of a string, and of an f-string what stands before its first value."""
    first = node.values[0] if isinstance(node, ast.JoinedStr) and node.values else node
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


def reachable(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """For each node of a graph, all that can be reached from it: itself too where it is on a circle."""
    reach = {node: set(targets) for node, targets in graph.items()}
    for middle in graph:
        for node, targets in reach.items():
            if middle in targets:
                reach[node] = targets | reach[middle]
    return reach


def package_graph(modules: list[Module]) -> dict[str, set[str]]:
    """For each package, those that it imports."""
    graph: dict[str, set[str]] = {module.package: set() for module in modules}
    for one in between_packages(modules):
        graph[one.importer.package].add(one.package)
    return graph


def circles(modules: list[Module]) -> list[str]:
    """The packages that import themselves by way of others."""
    return sorted(package for package, reached in reachable(package_graph(modules)).items() if package in reached)


def functions(modules: list[Module]) -> list[Function]:
    """Every function and method of the package, nested ones too."""
    every = []
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, FUNCTIONS):
                every.append(Function(f"{module.path}:{node.lineno} {node.name}", _length(node), _untyped(node)))
    return every


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function from its def to its end, without its docstring."""
    docstring = ast.get_docstring(node, clean=False)
    last = node.end_lineno or node.lineno
    return last - node.lineno + 1 - (docstring.count("\n") + 1 if docstring is not None else 0)


def _untyped(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The arguments that have no type, and "return" where the result has none. self and cls need none."""
    positional = node.args.posonlyargs + node.args.args
    if positional and positional[0].arg in ("self", "cls"):
        positional = positional[1:]
    starred = [one for one in (node.args.vararg, node.args.kwarg) if one]
    every = positional + node.args.kwonlyargs + starred
    return [one.arg for one in every if one.annotation is None] + ["return"] * (node.returns is None)


def config_lookups(modules: list[Module]) -> list[str]:
    """The places that read a config by the text of a key: config["seed"], run.config.get("seed"). A heuristic."""
    places = []
    for module in modules:
        tables = _tables(module)
        for node in ast.walk(module.tree):
            base: ast.expr
            key: ast.expr | None
            if isinstance(node, ast.Subscript):
                base, key = node.value, node.slice
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
                base, key = node.func.value, next(iter(node.args), None)
            else:
                continue
            while isinstance(base, ast.Subscript):
                base = base.value
            name = getattr(base, "id", None) or getattr(base, "attr", None)
            if name in CONFIG_NAMES - tables and isinstance(key, ast.Constant) and isinstance(key.value, str):
                places.append(f"{module.path}:{node.lineno} {ast.unparse(node)}")
    return places


def _tables(module: Module) -> set[str]:
    """Names of the arguments of a module that are tables: their columns are no keys of a config."""
    every = (node for node in ast.walk(module.tree) if isinstance(node, ast.arg) and node.annotation)
    return {one.arg for one in every if one.annotation and ast.unparse(one.annotation) == "pd.DataFrame"}


def counts(modules: list[Module]) -> dict[str, object]:
    """What the table says of a revision."""
    top = {module.path.split("/")[0] for module in modules}
    every = functions(modules)
    longest = max(every, key=lambda one: one.lines)
    return {
        "modules": len(modules),
        "modules directly under `oodcert/`": sum(name.endswith(".py") for name in top),
        "packages directly under `oodcert/`": sum(not name.endswith(".py") for name in top),
        "imports between packages": len({(one.importer.name, one.target) for one in between_packages(modules)}),
        "pairs of packages with an import": sum(map(len, package_graph(modules).values())),
        "packages in a circle of imports": len(circles(modules)),
        "functions": len(every),
        "untyped signatures": sum(bool(one.untyped) for one in every),
        f"functions longer than {LONG} lines": sum(one.lines > LONG for one in every),
        "longest function": f"{longest.lines} lines, `{longest.place.split()[1]}`",
        "look-ups in configs by a key's text": len(config_lookups(modules)),
    }


def table(columns: dict[str, dict[str, str]]) -> str:
    """The table in Markdown. columns: for each heading, the text of each file of the package."""
    counted = {heading: counts(read_package(files)) for heading, files in columns.items()}
    rows = [["", *counted], [":--", *["--:"] * len(counted)]]
    rows += [[name, *(str(each[name]) for each in counted.values())] for name in next(iter(counted.values()))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(revisions: list[str]) -> None:
    """Prints the table of revisions; without any, writes that of docs/structure.md."""
    if revisions:
        print(table({revision: files_at(revision) for revision in revisions}))
        return
    before, rest = PAGE.read_text().split(START)
    written = table({f"before ({BEFORE})": files_at(BEFORE), "now": files_now()})
    PAGE.write_text(before + START + "\n" + written + "\n\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    main(sys.argv[1:])
