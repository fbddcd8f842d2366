"""Which files a user's code consists of, without running it."""

from pathlib import Path

import pytest

from oodcert.runtime.source_files import code_sha256, source_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a network's module, what it imports, and what it does not."""
    sources = {
        "net.py": "import torch\nimport helper\nfrom package.layers import block\nraise RuntimeError('never run')\n",
        "helper.py": "def f():\n    import later\n    import importlib\n    importlib.import_module('named')\n",
        "later.py": "import net\n",
        "named.py": "",
        "package/__init__.py": "",
        "package/layers.py": "from . import sibling\nfrom .deep import core\nfrom .. import nothing\n",
        "package/sibling.py": "",
        "package/unused.py": "",
        "package/deep/__init__.py": "from .core import thing\n",
        "package/deep/core.py": "from ..sibling import other\n",
        "spaceless/module.py": "import broken\n",
        "broken.py": "def (\n",
        "unused.py": "",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(module: str) -> list[str]:
    return [str(path.relative_to(Path.cwd())) for path in source_files(module)]


def test_imports_are_followed_wherever_they_stand(folder):
    expected = ["helper.py", "later.py", "named.py", "net.py", "package/__init__.py"]
    deep = ["package/deep/__init__.py", "package/deep/core.py", "package/layers.py", "package/sibling.py"]
    assert names("net") == expected + deep


def test_a_package_without_init_and_a_source_that_does_not_parse(folder):
    assert names("spaceless.module") == ["broken.py", "spaceless/module.py"]
    assert names("no.such.module") == []


def test_of_an_installed_module_its_own_package_counts():
    files = source_files("safetensors.torch")
    assert {path.parent.name for path in files} == {"safetensors"} and len(files) > 1


@pytest.mark.parametrize("name", ["net.py", "later.py", "package/deep/core.py", "named.py"])
def test_a_change_of_any_of_them_changes_the_checksum(folder, name):
    before = code_sha256(["net"])
    (folder / "unused.py").write_text("1")
    assert code_sha256(["net"]) == before
    (folder / name).write_text((folder / name).read_text() + "# changed\n")
    assert code_sha256(["net"]) != before
