"""What lies downstream of the evidence works where torch can't be imported."""

import os
import subprocess
import sys

import pytest

from conftest import ROOT
from oodcert.evaluations.registry import EVALUATIONS

PACKAGES = ("config", "statistics", "evidence", "reporting", "audit")
WITHOUT_TORCH = """
import sys, traceback
from importlib import import_module

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision"):
            raise ImportError(f"this process has no {name}")

sys.meta_path.insert(0, NoTorch())
"""
IMPORT_ALL = """
failed = 0
for name in sys.argv[1:]:
    try:
        import_module(name)
    except ImportError as error:
        failed += 1
        chain = [frame.filename for frame in traceback.extract_tb(error.__traceback__) if "oodcert" in frame.filename]
        print(f"{name}: {error}, imported by {chain[-1] if chain else name}")
sys.exit(failed > 0)
"""
AUDIT = """
from oodcert.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def run_without_torch(script, *arguments):
    """Runs a script in a Python that can't import torch, in the root of the repository. Returns the ended process."""
    command = [sys.executable, "-c", WITHOUT_TORCH + script, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def modules_of(package):
    """The names of a package's modules."""
    folder = ROOT / "workflow"
    for path in sorted((folder / "oodcert" / package).rglob("*.py")):
        yield ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")


def test_no_module_downstream_of_the_evidence_imports_torch():
    done = run_without_torch(IMPORT_ALL, *(name for package in PACKAGES for name in modules_of(package)))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_registry_and_the_specs_of_evaluations_import_no_torch():
    specs = {spec.function.partition(":")[0] for spec in EVALUATIONS.values()}
    done = run_without_torch(IMPORT_ALL, "oodcert.evaluations.registry", "oodcert.evaluations.spec", *specs)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("profile", ["digits", "cifar-lite"])
def test_the_committed_references_pass_an_audit_without_torch(profile):
    done = run_without_torch(AUDIT, "audit", f"results/reference/{profile}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_torch_is_missing_in_these_processes():
    done = run_without_torch(IMPORT_ALL, "oodcert.models.detector")
    assert done.returncode == 1 and "has no torch" in done.stdout
