"""The README shows the numbers of the committed reference run, which is whole and traced."""

import json
import re

import pytest
import yaml

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
