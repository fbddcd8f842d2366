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

from conftest import ROOT
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


@pytest.mark.parametrize("profile", CONFIGS)
def test_the_headline_table_is_the_reference_runs(profile):
    table = (REFERENCES / profile / "tables" / "headline.md").read_text().split("\n\n", 1)[1].strip()
    assert table in (ROOT / "README.md").read_text()


def test_the_verdicts_are_those_of_the_reference_runs():
    runs = [pd.read_csv(REFERENCES / profile / "tables" / "claims.csv").set_index("id") for profile in CONFIGS]
    of_paper = [one for one in runs[0].index if re.fullmatch(r"C\d.", one)]
    told = [one for one in of_paper if any(run.notna().loc[one, "measured"] for run in runs)]
    text = (ROOT / "README.md").read_text()
    assert re.findall(r"^\| (C\d.) \|", text, re.MULTILINE) == told and {"C1a", "C2a", "C3a", "C4a"} <= set(told)
    for one in told:
        cells = [one, *runs[0].loc[one, ["statement", "expected"]], *(_verdict(run.loc[one]) for run in runs)]
        assert f"| {' | '.join(cells)} |" in text


def _verdict(row):
    if pd.isna(row["measured"]):
        return row["verdict"]
    verdict = "undecided" if row["verdict"] == "not testable here" else row["verdict"]
    measured, lower, upper = (f"{row[key]:.1f}".replace("-", "−") for key in ("measured", "lower", "upper"))
    return f"{verdict}: {measured} [{lower}, {upper}]".replace("−0.0", "0.0")


def test_the_files_it_links_to_are_committed():
    links = re.findall(r"\]\(([^):#]+)\)", (ROOT / "README.md").read_text())
    assert len(links) >= 4 and all((ROOT / link).exists() for link in links)


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
    assert "percentile" in result.stdout and len(result.stdout.splitlines()) == 13
