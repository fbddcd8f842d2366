"""Components that are imported: which ones, and a released file on its way from a server to a method's component."""

import json
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from conftest import ROOT
from oodcert.config import external_weights
from oodcert.config.external_weights import imported, released_weights, remote_files
from oodcert.config.load import check_config, merged_files, read_configs
from oodcert.errors import InputError
from oodcert.models.components import build_component, load_component
from oodcert.models.released_checkpoints import FORMATS, released_names, released_network
from oodcert.runtime.files import sha256

PAPER = [ROOT / "config" / "paper.yaml"]
DIGITS = merged_files([ROOT / "config" / "config.yaml"])
CIFAR100 = [*PAPER, ROOT / "config" / "paper-cifar100.yaml"]
COMPONENTS = {"plain", "oe", "logitnorm", "vos", "acet", "atom", "good", "prood", "discriminator", "denoiser"}
MINE = {"network": "my_nets:small", "weights": "small.safetensors"}


@pytest.mark.parametrize(
    ("files", "trained"), [(PAPER, set()), (CIFAR100, {"good", "logitnorm", "vos", "denoiser"})], ids=["10", "100"]
)
def test_what_is_released_is_not_trained(files, trained):
    config = read_configs(files)
    assert not imported(config)
    imports = imported(config.changed(weights="released"))
    assert imports.keys() == COMPONENTS - trained
    assert all(one.network["format"] in FORMATS for one in imports.values())
    assert len({one.file for one in imports.values()}) == len(imports) - 1, "a joint file holds two components"


def test_every_released_file_can_be_told_from_the_others():
    assert {row.format for row in released_weights().values()} <= FORMATS.keys()
    files = remote_files()
    assert {row.file for row in released_weights().values()} <= files.keys() and "cifar-10-python.tar.gz" in files
    assert all(Path(name).name == name and all("://" in url for url in row.urls) for name, row in files.items())


def test_a_user_supplied_component_takes_the_place_of_a_trained_one():
    imports = imported(check_config(DIGITS | {"imports": {"plain": MINE}}))
    assert imports["plain"].network == {"name": "own", "network": "my_nets:small"}
    assert str(imports["plain"].file) == "small.safetensors" and len(imports) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imports": {"mine": MINE}}, "imports.mine is no component of any method"),
        (
            {"imports": {"plain": {"network": "my_nets", "weights": "x"}}},
            "imports.plain.network = 'my_nets'.*MODULE:NAME",
        ),
        ({"imports": {"plain": {"network": "a:b"}}}, "lacks weights at imports.plain"),
        ({"weights": "trained"}, "weights = 'trained'.*train, or released"),
    ],
)
def test_imports_that_mean_nothing_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        check_config(DIGITS | changes)


HEADER = (ROOT / "data" / "weights.csv").read_text().split("\n", 1)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: not the columns id, component, format"),
        ("id,component\ncifar10,plain\n", "line 1: not the columns id, component, format"),
        ("<html></html>", "line 1: not the columns id, component, format"),
        (f"{HEADER}\ncifar10,plain,good,../x,,,,,,\n", "line 2: names a file outside its folder"),
    ],
)
def test_a_broken_table_of_weights_is_named(tmp_path, monkeypatch, text, message):
    monkeypatch.setattr(external_weights, "WEIGHTS", tmp_path / "weights.csv")
    (tmp_path / "weights.csv").write_text(text)
    released_weights.cache_clear()
    try:
        with pytest.raises(InputError, match=rf"weights.csv, {message}"):
            released_weights()
    finally:
        released_weights.cache_clear()


@pytest.fixture
def server(tmp_path):
    """A folder and the address at which its files are served."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_released_file_becomes_a_component(server, clone):
    """Downloaded, verified and imported by the workflow; a file with another checksum is not."""
    folder, url = server
    torch.manual_seed(0)
    network = released_network("prood-discriminator", 1)
    names, state = released_names("prood-discriminator", network), network.state_dict()
    torch.save({names[key]: tensor for key, tensor in state.items()}, folder / "disc.pt")
    row = f"cifar10,discriminator,prood-discriminator,disc.pt,{url}/disc.pt,,{{}},,MIT,of this test\n"
    target = "results/paper/models/discriminator.safetensors"

    def run(checksum):
        (clone / "data" / "weights.csv").write_text(f"{HEADER}\n{row.format(checksum)}")
        command = [sys.executable, "-m", "snakemake", target, "--cores", "1", "--configfile", "config/paper.yaml"]
        command += ["--config", "weights=released", "device=cpu"]
        return subprocess.run(command, cwd=clone, capture_output=True, text=True)

    refused = run("0" * 64)
    assert refused.returncode == 1 and "disc.pt" in refused.stderr and "sha256" in refused.stderr.lower()
    assert not (clone / target).exists() and not (clone / "data" / "downloads" / "disc.pt").exists()

    done = run(sha256(folder / "disc.pt"))
    assert done.returncode == 0 and "download" in done.stderr, done.stdout + done.stderr
    component = build_component(
        "discriminator", {"discriminator": {"name": "released", "format": "prood-discriminator"}}, (3, 32, 32), 10
    )
    for key, tensor in load_component(component, clone / target).state_dict().items():
        assert torch.equal(tensor, state[key])
    (clone / target).unlink()
    os.utime(clone / "data" / "downloads" / "disc.pt", (0, 0))
    again = run(sha256(folder / "disc.pt"))
    assert again.returncode == 0 and "download" not in again.stderr, "what is there is not fetched again, however old"
    record = json.loads((clone / target).with_suffix(".json").read_text())
    assert record["inputs"] == {"data/downloads/disc.pt": sha256(folder / "disc.pt")}
