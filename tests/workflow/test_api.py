"""The public names, and the promise that nothing downstream of the evidence needs torch."""

import subprocess
import sys

import pytest
import torch

import oodcert
from conftest import ROOT


@pytest.mark.parametrize("name", oodcert.PUBLIC)
def test_every_public_name_resolves_and_is_documented(name):
    assert getattr(oodcert, name).__doc__ and name in dir(oodcert)
    assert callable(getattr(oodcert, name))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="certifie"):
        oodcert.__getattr__("certifie")


def test_five_lines_certify_a_network():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    detector = oodcert.Detector(network, score="msp")
    ours, theirs = (oodcert.certify(detector, torch.rand(20, 1, 4, 4), sigma=0.25, n=200) for _ in range(2))
    result = oodcert.guaranteed_metrics(ours, theirs)
    assert result.columns.tolist() == ["bound", "radius", "auc", "aupr", "fpr95", "confidence"] and len(result) == 12


@pytest.mark.parametrize("package", ["config", "evidence", "statistics", "reporting", "audit"])
def test_what_follows_the_evidence_imports_no_torch(package):
    folder = ROOT / "workflow" / "oodcert" / package
    paths = [path.relative_to(ROOT / "workflow").with_suffix("") for path in folder.rglob("*.py")]
    assert paths and imports_no_torch(*(".".join(path.parts) for path in paths))


@pytest.mark.parametrize("module", ["evaluations.registry", "execution.cost", "execution.shards", "execution.jobs"])
def test_what_plans_a_run_imports_no_torch(module):
    assert imports_no_torch(f"oodcert.{module}")


def imports_no_torch(*modules):
    """Whether a new process that imports these modules has not imported torch."""
    names = ", ".join(module.removesuffix(".__init__") for module in modules)
    code = f"import sys, {names}; assert 'torch' not in sys.modules"
    return subprocess.run([sys.executable, "-c", code]).returncode == 0
