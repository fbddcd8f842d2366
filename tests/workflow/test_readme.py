"""The README shows the numbers of the committed reference run, which is whole and traced."""

import json
import os
import re
import subprocess
import sys
from functools import cache

import pandas as pd
import pytest
import torch
import torchvision
import yaml
from PIL import Image
from sklearn.datasets import load_sample_image

from conftest import ROOT, script
from oodcert.evidence.store import read_evaluations
from oodcert.runtime.files import sha256

REFERENCES = ROOT / "results" / "reference"
CONFIGS = {"digits": "config.yaml", "cifar-lite": "cifar-lite.yaml"}
PATHS = sorted(REFERENCES.glob("*/evidence/*/*.parquet"))


@cache
def evidence(profile):
    return read_evaluations([path for path in PATHS if path.parents[2].name == profile])


@cache
def config(profile):
    return yaml.safe_load((ROOT / "config" / CONFIGS[profile]).read_text())


def test_the_page_of_results_shows_the_tables_of_the_reference_runs():
    results, page = script("results"), (ROOT / "docs" / "results.md").read_text()
    claims = results.claims()
    assert all(table in page for table in (claims, *map(results.headline, CONFIGS)))
    assert {"C1a", "C1f", "C2a", "C3a", "C4a"} <= set(re.findall(r"^\| (C\d.) \|", claims, re.MULTILINE))


def test_it_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150 and len(text.split()) <= 1200


def test_it_quotes_the_guarantees_of_the_reference_runs():
    text = (ROOT / "README.md").read_text()
    digits, cifar = (
        pd.read_csv(REFERENCES / profile / "tables" / "claims.csv").set_index("id")["measured"] for profile in CONFIGS
    )
    assert f"is {digits['C1b']:.0f} (smoothed) and {digits['C1f']:.0f} (one pass)" in text
    assert f"certifies {cifar['C1c']:.0f} there" in text


def test_the_files_it_links_to_are_committed():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        links = re.findall(r"\]\(([^):#]+)(?:#[^)]*)?\)", page.read_text())
        assert all((page.parent / link).exists() for link in links), page
        assert page.name != "README.md" or len(links) >= 4


@pytest.mark.parametrize("path", PATHS, ids=lambda path: "-".join((path.parents[2].name, path.parent.name, path.stem)))
def test_reference_evidence_is_what_its_record_says(path):
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["sha256"] == sha256(path) and record["dirty"] is False


@pytest.mark.parametrize("profile", CONFIGS)
def test_one_version_of_the_code_made_the_reference(profile):
    """But for the long trainings of cifar-lite, which were begun before the rest of that version was written."""
    paths = [path for path in PATHS if path.parents[2].name == profile]
    records = {path: json.loads(path.with_suffix(".json").read_text()) for path in paths}
    trained = profile == "cifar-lite"
    evaluated = [record for path, record in records.items() if not (trained and path.parent.name == "training")]
    assert len({record["commit"] for record in evaluated}) == 1


@pytest.mark.parametrize(("profile", "least"), [("digits", 0.95), ("cifar-lite", 0.85)])
def test_plain_classifies_the_images(profile, least):
    clean = evidence(profile)["clean"].query("method == 'plain'")
    id_rows = clean[clean["set"].isin(["id", "id_more"])]
    assert len(id_rows) == config(profile)["data"]["accuracy_images"]
    assert (id_rows["prediction"] == id_rows["label"]).mean() >= least


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
    assert "threshold" in result.stdout and len(result.stdout.splitlines()) == 1 + 3  # radii
