"""The packages import each other downwards only, in the order that docs/structure.py declares."""

import re
import runpy

import pytest

from conftest import ROOT

STRUCTURE = runpy.run_path(str(ROOT / "docs" / "structure.py"))
LAYERS = STRUCTURE["LAYERS"]
BELOW = STRUCTURE["reachable"]({package: set(direct) for package, direct in LAYERS.items()})
LIBRARY = ROOT / STRUCTURE["SOURCES"]
MOST_ENTRIES, MOST_FILES = 20, 6


@pytest.fixture(scope="module")
def modules():
    return STRUCTURE["read_package"](STRUCTURE["files_now"]())


def example(**texts):
    """The modules of a made-up package, by the text of each file; "__" in a name stands for a folder."""
    files = {f"{name.replace('__', '/')}.py": text for name, text in texts.items()}
    return STRUCTURE["read_package"](files)


def entries():
    """The files and folders directly under oodcert/. A folder that holds nothing but caches is none."""
    for path in LIBRARY.iterdir():
        if path.is_file() or any("__pycache__" not in file.parts for file in path.rglob("*.py")):
            yield path


def test_the_declared_layers_have_no_circle_and_no_unknown_name():
    assert not [package for package, below in BELOW.items() if package in below]
    assert {name for direct in LAYERS.values() for name in direct} <= set(LAYERS)


def test_the_page_draws_each_package_above_those_it_may_import():
    drawing = STRUCTURE["PAGE"].read_text().split("```text\n")[1].split("```")[0].splitlines()
    height = {name: -row for row, line in enumerate(drawing) for name in re.findall(r"\w+", line)}
    assert set(height) == set(LAYERS)
    assert not [(package, low) for package in LAYERS for low in BELOW[package] if height[low] >= height[package]]


def test_every_package_has_a_layer(modules):
    assert {module.package for module in modules} <= set(LAYERS), "declare new packages in LAYERS of docs/structure.py"


def test_no_import_goes_against_the_order_of_the_layers(modules):
    across = STRUCTURE["between_packages"](modules)
    upward = [str(one) for one in across if one.package not in BELOW[one.importer.package]]
    assert not upward, "\n".join(["against LAYERS of docs/structure.py:", *upward])


def test_no_packages_import_each_other_in_a_circle(modules):
    circle = STRUCTURE["circles"](modules)
    assert not circle, f"{', '.join(circle)} reach themselves; see the imports against the order of the layers"


def test_few_entries_lie_directly_under_the_package():
    assert len(list(entries())) <= MOST_ENTRIES
    assert len([path.name for path in entries() if path.is_file()]) <= MOST_FILES


def test_imports_are_seen_wherever_they_stand():
    modules = example(
        __init__="",
        errors="",
        data__folder="def load():\n    from oodcert.models import detector\n",
        models__detector=(
            "from typing import TYPE_CHECKING\nfrom oodcert import errors\nfrom ..data.folder import load\n"
            "if TYPE_CHECKING:\n    from oodcert.cli import main\nelse:\n    import oodcert.runtime.files\n"
        ),
        models__components='def choose(name):\n    return import_module(f"oodcert.training.{name}")\n',
    )
    seen = {(one.importer.package, one.target, one.when) for one in STRUCTURE["imports"](modules)}
    assert seen == {
        ("data", "oodcert.models.detector", "call"),
        ("models", "oodcert.errors", "import"),
        ("models", "oodcert.data.folder", "import"),
        ("models", "oodcert.cli", "typing"),
        ("models", "oodcert.runtime.files", "import"),
        ("models", "oodcert.training", "call"),
    }
    assert STRUCTURE["circles"](modules) == ["data", "models"]
