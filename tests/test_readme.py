"""The README shows the numbers of the committed reference run, which is whole and traced."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
import torchvision
import yaml
from PIL import Image
from sklearn.datasets import load_sample_image

from conftest import ROOT
from oodcert.checks import check_order, require
from oodcert.evidence import read_evaluations
from oodcert.files import sha256
from oodcert.tables import TABLES, caption, readable, write_table

REFERENCE = ROOT / "results" / "reference" / "digits"
PATHS = sorted(REFERENCE.glob("evidence/*/*.parquet"))


@pytest.fixture(scope="module")
def evidence():
    return read_evaluations(PATHS)


def test_the_headline_table_is_the_reference_runs():
    table = (REFERENCE / "tables" / "headline.md").read_text().split("\n\n", 1)[1].strip()
    assert table in (ROOT / "README.md").read_text()


def test_the_files_it_links_to_are_committed():
    links = re.findall(r"\]\(([^):#]+)\)", (ROOT / "README.md").read_text())
    assert len(links) >= 4 and all((ROOT / link).exists() for link in links)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_reference_evidence_is_what_its_record_says(path):
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["sha256"] == sha256(path) and record["dirty"] is False


def test_one_version_of_the_code_made_the_reference():
    records = [json.loads(path.with_suffix(".json").read_text()) for path in PATHS]
    assert len({record["commit"] for record in records}) == 1


def test_plain_classifies_the_digits(evidence):
    inside = evidence["clean"].query("method == 'plain' and set == 'id'")
    assert (inside["prediction"] == inside["label"]).mean() >= 0.95


@pytest.mark.parametrize("kind", TABLES)
def test_reference_tables_follow_from_the_evidence(kind, evidence, tmp_path):
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    frame = TABLES[kind](evidence, config)
    write_table(frame, caption(kind, evidence, config), tmp_path / kind, readable(kind, frame, config))
    for suffix in ("csv", "md", "tex"):
        assert (tmp_path / f"{kind}.{suffix}").read_text() == (REFERENCE / "tables" / f"{kind}.{suffix}").read_text()


def test_reference_evidence_is_in_order(evidence):
    require(check_order(evidence))


def test_the_five_lines_run_as_they_are_printed(tmp_path):
    """But for smaller images, and random weights in the place where torchvision keeps downloaded ones."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(code.split("\n\n", 1)[1].strip().splitlines()) + 1 == 5
    for folder, name in (("known", "china.jpg"), ("strange", "flower.jpg")):
        (tmp_path / folder).mkdir()
        Image.fromarray(load_sample_image(name)).save(tmp_path / folder / name)
    weights = torchvision.models.ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[1]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "hub" / "checkpoints" / weights)
    paths = {"TORCH_HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "workflow"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code.replace("224)", "32)")]
    result = subprocess.run(command, cwd=tmp_path, env=os.environ | paths, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "percentile" in result.stdout and len(result.stdout.splitlines()) == 13
