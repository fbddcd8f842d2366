"""The manifest of a run: what it records, and which files are refused as manifests."""

import json

import pytest

from conftest import checked, read_config
from oodcert.errors import InputError
from oodcert.evidence.manifest import LOCAL, NAME, digest, figures_of, located, read_manifest, write_manifest
from oodcert.runtime.files import sha256

HASH = "0" * 64


@pytest.fixture
def results(tmp_path):
    """The folder of a run with a table, a figure and a manifest."""
    results = tmp_path / "results/digits"
    paths = [results / "tables/ood.csv", tmp_path / "figures/digits/scores.png"]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_text(path.name)
    write_manifest(results, checked(read_config()), paths)
    return results


def test_a_manifest_names_every_file_with_its_hash(results):
    manifest = read_manifest(results)
    assert set(manifest["files"]) == {"tables/ood.csv", "figures/scores.png"}
    assert all(hashed == sha256(located(results, name)) for name, hashed in manifest["files"].items())
    assert located(results, "figures/scores.png") == figures_of(results) / "scores.png"
    assert manifest["digest"] == digest(manifest)


def test_settings_that_change_no_result_are_left_out(results):
    config = read_manifest(results)["config"]
    assert not config.keys() & LOCAL.keys()
    assert checked({**config, **LOCAL}) == checked({**read_config(), **LOCAL})


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"extra": 1}, "extra"),
        ({"config": ["seed"]}, "config"),
        ({"commit": 1}, "commit"),
        ({"dirty": "yes"}, "dirty"),
        ({"packages": {"numpy": 2}}, "packages.numpy"),
        ({"sources": {"paper/claims.yaml": "0" * 63}}, "sources"),
        ({"digest": "A" * 64}, "digest"),
        *(({"files": {name: HASH}}, "files") for name in ("../x", "/x", "a/../x", "a//b", "a\\b", ".x", "", "a/\n/.b")),
    ],
)
def test_what_is_no_manifest_is_refused_by_name(changes, place, results):
    path = results / NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=rf"(?s)manifest\.json is no manifest \({place}.*changed after the run"):
        read_manifest(results)


@pytest.mark.parametrize("text", ["[]", "null", "{}", "3"])
def test_other_json_is_refused(text, results):
    (results / NAME).write_text(text)
    with pytest.raises(InputError, match="is no manifest"):
        read_manifest(results)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00"])
def test_what_is_not_json_is_refused(text, results):
    (results / NAME).write_text(text)
    with pytest.raises(InputError, match="is not JSON"):
        read_manifest(results)
