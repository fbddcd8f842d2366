"""The RO-Crate of a run: complete, linked, of the listed bytes, and the same each time."""

import hashlib
import json
import zipfile

import pytest
from rocrate.rocrate import ROCrate

from oodcert.errors import InputError
from oodcert.evidence.manifest import NAME, read_manifest
from oodcert.reporting.ro_crate import PROFILES, write_crate
from oodcert.runtime.files import sha256


@pytest.fixture(scope="module")
def packed(reference, tmp_path_factory):
    """The crate of the committed digits run."""
    path = tmp_path_factory.mktemp("crate") / "crate.zip"
    write_crate(reference, path)
    return path


@pytest.fixture(scope="module")
def graph(packed):
    """Its entities by id."""
    with zipfile.ZipFile(packed) as archive:
        return {entity["@id"]: entity for entity in json.loads(archive.read("ro-crate-metadata.json"))["@graph"]}


def references(value):
    """All ids that a value of the graph refers to."""
    if isinstance(value, dict):
        return {value["@id"]} if set(value) == {"@id"} else set().union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_every_file_of_the_run_is_in_it_with_its_checksum(packed, graph, reference):
    files = {name: entity for name, entity in graph.items() if "File" in entity["@type"]}
    with zipfile.ZipFile(packed) as archive:
        packed_names = set(archive.namelist()) - {"ro-crate-metadata.json", "ro-crate-preview.html"}
        assert packed_names == set(files)
        for name, entity in files.items():
            content = archive.read(name)
            assert entity["sha256"] == hashlib.sha256(content).hexdigest()
            assert entity["contentSize"] == str(len(content))
    listed = [
        name.replace("figures/", "figures/digits/") if name.startswith("figures/") else f"results/digits/{name}"
        for name in read_manifest(reference)["files"]
    ]
    assert set(listed) <= set(files)
    assert f"results/digits/{NAME}" in files and {"Snakefile", "config.json", "README.md", "LICENSE"} <= set(files)


def test_the_metadata_is_what_the_specification_asks_for(packed, graph):
    descriptor, root = graph["ro-crate-metadata.json"], graph["./"]
    assert descriptor["about"] == {"@id": "./"}
    assert {"@id": "https://w3id.org/ro/crate/1.1"} in descriptor["conformsTo"]
    assert root["@type"] == "Dataset" and references(root["license"]) == {"https://spdx.org/licenses/MIT"}
    assert root["name"] and root["description"] and len(root["datePublished"]) == len("2026-11-23")
    assert references(root["conformsTo"]) == set(PROFILES)
    outside = set().union(*map(references, graph.values())) - set(graph)
    assert all(one.startswith("https://") for one in outside)
    files = {name for name, entity in graph.items() if "File" in entity["@type"]}
    assert references(root["hasPart"]) == files
    assert all(graph[name]["name"] and graph[name]["encodingFormat"] and graph[name]["description"] for name in files)
    assert ROCrate(packed).mainEntity.id == "Snakefile"


def test_the_run_is_an_action_from_inputs_to_results(graph, reference):
    run = graph["#run"]
    assert graph["./"]["mentions"] == {"@id": "#run"} and run["instrument"] == {"@id": "Snakefile"}
    assert set(graph["Snakefile"]["@type"]) == {"File", "SoftwareSourceCode", "ComputationalWorkflow"}
    inputs, made = references(run["object"]), references(run["result"])
    assert {"config.json", "#data/digits/id_test.npz", "#data/digits/id_train.npz"} <= inputs
    assert len(made) == len(read_manifest(reference)["files"])
    packages = {graph[url]["name"]: graph[url] for url in references(graph["Snakefile"]["softwareRequirements"])}
    assert packages["torch"]["softwareVersion"] and packages["torch"]["url"].startswith("https://")


def test_same_bytes_each_time(packed, reference, tmp_path):
    write_crate(reference, tmp_path / "again.zip")
    assert sha256(tmp_path / "again.zip") == sha256(packed)


def test_a_changed_file_is_refused(reference, tmp_path):
    path, crate = reference / "checks.csv", tmp_path / "crate.zip"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole + b"\n")
        with pytest.raises(InputError, match=r"checks\.csv is missing or differs"):
            write_crate(reference, crate)
    finally:
        path.write_bytes(whole)
    assert not crate.exists()
