"""The documentation of the configuration is in step with its models, and explains every key."""

import json

import pytest
from jsonschema import Draft202012Validator

from conftest import ROOT
from oodcert.config import document
from oodcert.config.load import merged_files

CONFIGS = [["config"], ["cifar-lite"], ["paper"], ["paper", "paper-cifar100"]]


def test_the_committed_files_are_those_of_the_models():
    remedy = "run: PYTHONPATH=workflow python -m oodcert.config.document"
    assert document.README.read_text() == document.readme(), remedy
    assert document.SCHEMA.read_text() == document.schema(), remedy


@pytest.mark.parametrize("names", CONFIGS, ids="-".join)
def test_the_committed_configs_satisfy_the_schema(names):
    schema = json.loads(document.schema())
    Draft202012Validator.check_schema(schema)
    config = merged_files([ROOT / "config" / f"{name}.yaml" for name in names])
    Draft202012Validator(schema).validate(config)


def keys(node):
    """All keys of a config but the names that users choose."""
    for key, value in node.items() if isinstance(node, dict) else ():
        yield key
        named = key in ("methods", "imports", "training", "own", "unavailable")
        for child in value.values() if named and isinstance(value, dict) else [value]:
            yield from keys(child)


@pytest.mark.parametrize("names", CONFIGS, ids="-".join)
def test_every_key_of_the_committed_configs_is_explained(names):
    readme = document.readme()
    config = merged_files([ROOT / "config" / f"{name}.yaml" for name in names])
    assert not [key for key in keys(config) if f"`{key}`" not in readme]


def test_every_link_of_the_tables_leads_to_a_section():
    readme = document.readme()
    headings = {line.strip("#` ").replace(".", "").lower() for line in readme.splitlines() if line.startswith("## `")}
    links = {part.split(")")[0] for part in readme.split("](#")[1:]}
    assert links and links <= headings


def test_no_row_lacks_a_meaning_or_what_is_allowed():
    rows = [line.split(" | ") for line in document.readme().splitlines() if line.startswith(("| `", "| [`"))]
    assert len(rows) > 90 and all(cell.strip(" |") for row in rows for cell in row[:3])
