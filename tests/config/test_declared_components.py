"""The components: what training files declare, read without importing them."""

import subprocess
import sys

import pytest
import torch

from conftest import ROOT
from oodcert import paths
from oodcert.config.components import Component, declared_component, known_components
from oodcert.errors import InputError
from oodcert.models.components import build_component

NETWORKS = {
    "classifier": {"name": "cnn", "width": 4},
    "good": {"name": "ibp_cnn_xl", "width": 4},
    "discriminator": {"name": "ibp_cnn_s", "width": 4},
    "denoiser": {"channels": [8], "patch": 2, "timesteps": 50},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder in the place of the training files."""
    monkeypatch.setattr(paths, "TRAINING", tmp_path)
    known_components.cache_clear()
    yield tmp_path
    known_components.cache_clear()


def test_the_components_of_the_ten_methods():
    components = known_components()
    assert set(components) == {
        *("plain", "oe", "logitnorm", "vos", "acet", "atom", "good", "prood", "discriminator", "denoiser"),
    }
    assert components["atom"].extra_outputs == 1 and sum(one.extra_outputs for one in components.values()) == 1
    assert {name: one.needs for name, one in components.items() if one.needs} == {"prood": ("discriminator",)}
    assert [name for name, one in components.items() if one.bounded] == ["good"]
    assert components["logitnorm"].settings == {"temperature": "positive"} and components["plain"].settings == {}


def test_files_are_read_and_not_imported(folder):
    (folder / "mixup.py").write_text(
        'SETTINGS = {"rate": "share"}\nNEEDS = ("plain",)\nEXTRA_OUTPUTS = 2\nraise RuntimeError("imported")\n'
    )
    (folder / "loop.py").write_text("STEP = 1\ndef train():\n    SETTINGS = {}\n")
    assert known_components() == {"mixup": Component({"rate": "share"}, ("plain",), 2)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SETTINGS = dict(share=ramp)\n", "mixup.py: SETTINGS must be a literal"),
        ("SETTINGS = {}\nNEEDS = (plain,)\n", "mixup.py: NEEDS must be a literal"),
        ("SETTINGS = {\n", "mixup.py is not Python .*line 1"),
    ],
)
def test_what_can_not_be_read_without_importing_is_named(folder, text, message):
    (folder / "mixup.py").write_text(text)
    with pytest.raises(InputError, match=message):
        known_components()


def test_without_needs_and_outputs_there_are_none(folder):
    (folder / "bare.py").write_text("SETTINGS = {}\n")
    assert declared_component("bare") == Component({}, (), 0)


def test_an_unknown_component_names_the_known_ones(folder):
    (folder / "bare.py").write_text("SETTINGS = {}\n")
    with pytest.raises(InputError, match=r"no component 'plain': workflow/oodcert/training holds bare\. .*add a file"):
        declared_component("plain")


def test_the_config_is_checked_without_torch():
    code = "import sys, yaml; from oodcert.config.load import check_config\n"
    code += "check_config(yaml.safe_load(open('config/config.yaml'))); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("name", known_components())
def test_every_component_is_built_with_the_outputs_it_declares(name):
    module = build_component(name, NETWORKS, (1, 8, 8), 3).eval()
    images = torch.rand(2, 1, 8, 8)
    if name == "denoiser":
        assert module(images, 0.25).shape == images.shape
    else:
        assert module(images).shape == (2, {"discriminator": 1, "atom": 4}.get(name, 3))


def test_a_component_has_a_network_to_itself_or_that_of_classifier():
    def tensors(networks):
        return [tensor.shape for tensor in build_component("good", networks, (1, 8, 8), 3).state_dict().values()]

    others = {key: spec for key, spec in NETWORKS.items() if key != "good"}
    assert tensors(others) == tensors({"classifier": NETWORKS["classifier"]}) != tensors(NETWORKS)
