"""The public names, and the promise that nothing downstream of the evidence needs torch."""

import subprocess
import sys

import pytest
import torch

import oodcert


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
    assert result.columns.tolist() == ["bound", "radius", "auc", "aupr", "fpr95"] and len(result) == 12


@pytest.mark.parametrize(
    "module", ["config", "methods", "evidence", "metrics", "checks", "tables", "figures", "jobs", "audit"]
)
def test_what_follows_the_evidence_imports_no_torch(module):
    code = f"import sys, oodcert.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
