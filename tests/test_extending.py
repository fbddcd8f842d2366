"""docs/extending.md: its new method and its config lines, as they are printed, through the whole workflow."""

import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from conftest import ROOT, read_config, shrink
from oodcert.parts import known_parts

PAGE = (ROOT / "docs" / "extending.md").read_text()
NEW = ["label_smoothing", "label_smoothing_denoised"]


@pytest.fixture
def clone(tmp_path):
    """The workflow with the page's file added to it, and nothing else changed."""
    for name in ("workflow", "config", "envs", "data/splits"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (name,) = set(re.findall(r"`(workflow/oodcert/training/label_\w+\.py)`", PAGE))
    (tmp_path / name).write_text(code)
    return tmp_path


def test_an_eleventh_method_is_one_file_and_the_config(clone):
    lines = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[-1])
    config = shrink(read_config())
    config["methods"] = lines["methods"]
    config["training"] |= {part: settings | {"epochs": 2} for part, settings in lines["training"].items()}
    (clone / "tiny.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "tiny.yaml"]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for table in ("id", "ood", "l2", "sanity", "headline"):
        methods = pd.read_csv(clone / f"results/tiny/tables/{table}.csv")["method"].unique().tolist()
        assert methods == NEW


def test_the_page_names_every_type_and_network_there_is():
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text())
    for network in schema["$defs"]["network"]["properties"]["name"]["enum"]:
        assert f"`{network}`" in PAGE
    for kind in {kind for part in known_parts().values() for kind in part.settings.values()}:
        assert f"`{kind}`" in PAGE
