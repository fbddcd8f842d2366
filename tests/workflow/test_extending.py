"""docs/extending.md: its component, network, images and evaluation run through the whole workflow as printed there."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from torch import nn

from conftest import ROOT, read_config, shrink
from oodcert.config.components import known_components
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.evaluations.spec import TYPES
from oodcert.models.networks import NETWORKS

PAGE = (ROOT / "docs" / "extending.md").read_text()
SUPPLIED, NEW = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[-2:])
METHODS = NEW["methods"] | SUPPLIED["methods"]
TRAINING, EVALUATION = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
REGISTRY = "workflow/oodcert/evaluations/registry.py"
NETWORK = """from torch import nn


def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
"""


@pytest.fixture
def extended(clone):
    """The workflow with the page's two files added to it, and a user's network and images."""
    _add(clone, "training/label_smoothing.py", TRAINING)
    _add(clone, "evaluations/brightness.py", EVALUATION)
    assert f"`{REGISTRY}`" in PAGE
    registry = (clone / REGISTRY).read_text()
    (clone / REGISTRY).write_text(re.sub(r"^( +)certify_id,$", r"\1brightness,\n\1certify_id,", registry, flags=re.M))
    (clone / "my_nets.py").write_text(NETWORK)
    layer = nn.Linear(64, 8)
    torch.save({"1.weight": layer.weight.data, "1.bias": layer.bias.data}, clone / "weights.pt")
    (clone / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (15, 8, 8, 1), dtype=np.uint8)
    np.savez(clone / SUPPLIED["data"]["own"]["my_images"], images=pixels)
    return clone


def _add(clone, name, code):
    """Writes a file of the page below workflow/oodcert, under the name that the page gives it."""
    assert f"`workflow/oodcert/{name}`" in PAGE
    (clone / "workflow" / "oodcert" / name).write_text(code)


def _tiny_config():
    """The page's methods, network and images in the digits config, on tiny settings."""
    config = shrink(read_config())
    config["methods"] = METHODS
    config["training"] |= {name: recipe | {"epochs": 2} for name, recipe in NEW["training"].items()}
    config["imports"] = {"my_network": SUPPLIED["imports"]["my_network"] | {"weights": "weights.pt"}}
    config["data"] |= SUPPLIED["data"]
    return config


def test_what_the_page_adds_runs_through_the_workflow(extended):
    (extended / "tiny.yaml").write_text(yaml.safe_dump(_tiny_config(), sort_keys=False))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "tiny.yaml"]
    done = subprocess.run(command, cwd=extended, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for table in ("id", "ood", "l2", "sanity", "headline"):
        rows = pd.read_csv(extended / f"results/tiny/tables/{table}.csv")
        assert rows["method"].unique().tolist() == list(METHODS)
        assert "set" not in rows or rows["set"].unique().tolist() == ["held_out_digits", "my_images", "average"]
    assert not list(extended.glob("results/tiny/evidence/training/my_network*")), "imported, not trained"
    assert "my_nets:small" in (extended / "results/tiny/models/my_network.json").read_text()
    for method in METHODS:
        _check_brightness(extended / "results/tiny/evidence/brightness", method)
    command = [sys.executable, "-m", "oodcert", "cost", "--config", "tiny.yaml"]
    library = {"PYTHONPATH": str(extended / "workflow")}
    costs = subprocess.run(command, cwd=extended, env=os.environ | library, capture_output=True, text=True)
    assert costs.returncode == 0 and re.search(r"^brightness .* exact$", costs.stdout, re.MULTILINE), costs.stderr
    audit = json.loads((extended / "results/tiny/audit/report.json").read_text())
    assert "what the config fixes of 'brightness' is not in oodcert.audit.layout" in json.dumps(audit)


def _check_brightness(folder, method):
    """The columns are those of the page, every image and gain has its row, and the sidecar the settings."""
    schema = pq.read_schema(folder / f"{method}.parquet").remove_metadata()
    columns = [("method", "str"), ("set", "str"), ("sample", "int"), ("gain", "float"), ("score", "float")]
    assert [(field.name, field.type) for field in schema] == [(name, TYPES[kind]) for name, kind in columns]
    rows = pd.read_parquet(folder / f"{method}.parquet")
    assert (rows.groupby(["set", "gain"]).size() == 12).all() and np.isfinite(rows["score"]).all()
    assert set(rows["gain"]) == {0.5, 1.5} and set(rows["set"]) == {"id", "held_out_digits", "my_images"}
    settings = json.loads((folder / f"{method}.json").read_text())["settings"]
    assert settings["gains"] == [0.5, 1.5] and settings["method_spec"] == METHODS[method]


def test_the_line_of_the_registry_stands_where_the_page_shows_it():
    context = re.findall(r"^ (    \w+,)$", re.search(r"```diff\n(.*?)```", PAGE, re.DOTALL)[1], re.MULTILINE)
    assert "\n".join(context) in (ROOT / REGISTRY).read_text() and "brightness" not in EVALUATIONS


def test_the_page_names_every_type_and_network_there_is():
    for network in NETWORKS:
        assert network == "released" or f"`{network}`" in PAGE
    for kind in {kind for component in known_components().values() for kind in component.settings.values()}:
        assert f"`{kind}`" in PAGE
