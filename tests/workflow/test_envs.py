"""The lock file, the conda environment and pyproject.toml say the same."""

import ast
import runpy
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
SYNC = runpy.run_path(str(ROOT / "envs" / "sync.py"))
LOCK = (ROOT / "envs" / "requirements.lock").read_text()
ENTRIES = SYNC["read_lock"](LOCK)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def test_conda_environment_is_in_step_with_the_lock_file():
    assert (ROOT / "envs" / "oodcert.yaml").read_text() == SYNC["conda_environment"](LOCK), "run `make lock`"


def test_conda_environment_pins_each_package_once():
    environment = yaml.safe_load((ROOT / "envs" / "oodcert.yaml").read_text())
    assert environment["channels"] == ["conda-forge"]
    *conda, pip = environment["dependencies"]
    assert all(pin.count("=") == 1 for pin in conda)
    names = [canonicalize_name(Requirement(pin).name) for pin in pip["pip"]]
    assert len(names) == len(set(names)) > 100


def test_lock_file_has_exact_versions_with_hashes():
    for requirement, hashes in ENTRIES:
        (specifier,) = requirement.specifier
        assert specifier.operator == "==" and "*" not in specifier.version, requirement
        assert hashes and all(len(value) == len("sha256:") + 64 for value in hashes), requirement


def test_lock_file_has_no_addresses_and_no_paths():
    assert "://" not in LOCK
    assert not any(requirement.url for requirement, _ in ENTRIES)
    assert all(line.startswith("    --hash=sha256:") or line[0].isalnum() for line in LOCK.splitlines())


@pytest.mark.parametrize("group", ["dependencies", "workflow", "dev"])
def test_lock_file_satisfies_pyproject(group):
    wanted = PROJECT["dependencies"] if group == "dependencies" else PROJECT["optional-dependencies"][group]
    locked = {
        canonicalize_name(requirement.name): next(iter(requirement.specifier)).version
        for requirement, _ in ENTRIES
        if requirement.marker is None or requirement.marker.evaluate(SYNC["PLATFORM"])
    }
    for requirement in map(Requirement, wanted):
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), (
            f"{requirement} against the lock file's {version}: run `make lock`"
        )


def test_what_the_package_imports_is_declared():
    declared = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["workflow"]
    names = {canonicalize_name(Requirement(one).name) for one in declared}
    providers = packages_distributions()
    undeclared = {
        module
        for path in (ROOT / "workflow" / "oodcert").rglob("*.py")
        for module in imported(ast.parse(path.read_text())) - sys.stdlib_module_names - {"oodcert"}
        if not names & {canonicalize_name(one) for one in providers.get(module, [])}
    }
    assert not undeclared


def imported(tree):
    """The top-level modules that a file imports."""
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    sources = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    paths = [alias.name for node in named for alias in node.names] + [node.module for node in sources]
    return {path.split(".")[0] for path in paths}


def test_the_package_ships_its_types_and_whatever_else_is_no_python():
    library = ROOT / "workflow" / "oodcert"
    others = [path for path in library.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    shipped = PYPROJECT["tool"]["setuptools"]["package-data"]["oodcert"]
    assert sorted(path.relative_to(library).as_posix() for path in others) == sorted(shipped)
    assert "py.typed" in shipped


def test_the_container_has_the_same_python_and_lock_file():
    recipe, makefile = ((ROOT / name).read_text() for name in ("Dockerfile", "Makefile"))
    install = "--require-hashes --requirement envs/requirements.lock"
    assert f"FROM python:{SYNC['PYTHON']}-slim" in recipe
    assert install in recipe and install in makefile


def test_the_container_has_what_git_has():
    def docker(pattern):
        keep, pattern = "!" * pattern.startswith("!"), pattern.lstrip("!").rstrip("/")
        return keep + (pattern.lstrip("/") if "/" in pattern else f"**/{pattern}")

    git, ignored = (
        [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
        for name in (".gitignore", ".dockerignore")
    )
    assert ignored == [docker(pattern) for pattern in git]
