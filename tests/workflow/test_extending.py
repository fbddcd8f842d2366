"""docs/extending.md: its new method, network and images, as its config lines have them, through the whole workflow."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import nn

from conftest import ROOT, read_config, shrink
from oodcert.config.components import known_components
from oodcert.models.networks import NETWORKS

PAGE = (ROOT / "docs" / "extending.md").read_text()
OWN, NEW = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[-2:])
NETWORK = """from torch import nn


def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
"""


@pytest.fixture
def extended(clone):
    """The workflow with the page's file added to it, and a user's network and images."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (name,) = set(re.findall(r"`(workflow/oodcert/training/label_\w+\.py)`", PAGE))
    (clone / name).write_text(code)
    (clone / "my_nets.py").write_text(NETWORK)
    layer = nn.Linear(64, 8)
    torch.save({"1.weight": layer.weight.data, "1.bias": layer.bias.data}, clone / "weights.pt")
    (clone / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (15, 8, 8, 1), dtype=np.uint8)
    np.savez(clone / OWN["data"]["own"]["my_images"], images=pixels)
    return clone


def test_methods_networks_and_images_of_a_user(extended):
    config = shrink(read_config())
    config["methods"] = NEW["methods"] | OWN["methods"]
    config["training"] |= {name: recipe | {"epochs": 2} for name, recipe in NEW["training"].items()}
    config["imports"] = {"my_network": OWN["imports"]["my_network"] | {"weights": "weights.pt"}}
    config["data"] |= OWN["data"]
    (extended / "tiny.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "tiny.yaml"]
    done = subprocess.run(command, cwd=extended, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for table in ("id", "ood", "l2", "sanity", "headline"):
        found = pd.read_csv(extended / f"results/tiny/tables/{table}.csv")
        assert found["method"].unique().tolist() == ["label_smoothing", "label_smoothing_denoised", "mine"]
        assert "set" not in found or found["set"].unique().tolist() == ["held_out_digits", "my_images", "average"]
    assert not list(extended.glob("results/tiny/evidence/training/my_network*")), "imported, not trained"
    assert "my_nets:small" in (extended / "results/tiny/models/my_network.json").read_text()


def test_the_page_names_every_type_and_network_there_is():
    for network in NETWORKS:
        assert network == "released" or f"`{network}`" in PAGE
    for kind in {kind for component in known_components().values() for kind in component.settings.values()}:
        assert f"`{kind}`" in PAGE
