import pytest
import torch

from oodcert.errors import InputError
from oodcert.models.components import build_component, load_component, save_component

NETWORKS = {
    "classifier": {"name": "cnn", "width": 4},
    "discriminator": {"name": "ibp_cnn_s", "width": 4},
    "denoiser": {"channels": [8], "patch": 2, "timesteps": 50},
}


def component(name="plain", **classifier):
    networks = {**NETWORKS, "classifier": {**NETWORKS["classifier"], **classifier}}
    return build_component(name, networks, (1, 8, 8), 3)


@pytest.mark.parametrize("name", ["plain", "discriminator", "denoiser"])
def test_a_component_survives_the_disk(tmp_path, name):
    saved, path = component(name), tmp_path / "component.safetensors"
    save_component(saved, path)
    loaded = load_component(component(name), path)
    assert not loaded.training
    assert all(torch.equal(tensor, loaded.state_dict()[key]) for key, tensor in saved.state_dict().items())
    first = path.read_bytes()
    save_component(saved, path)
    assert path.read_bytes() == first


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"component\.safetensors does not exist.*snakemake"):
        load_component(component(), tmp_path / "component.safetensors")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04pickle", None])
def test_a_corrupt_file_is_named(tmp_path, content):
    path = tmp_path / "component.safetensors"
    save_component(component(), path)
    path.write_bytes(path.read_bytes()[:-50] if content is None else content)
    with pytest.raises(InputError, match=r"component\.safetensors is not a readable"):
        load_component(component(), path)


def test_a_checkpoint_that_does_not_fit_names_the_first_mismatches_and_their_number(tmp_path):
    path = tmp_path / "component.safetensors"
    save_component(component(width=8), path)
    with pytest.raises(InputError, match=r"0\.weight is \(8, 1, 3, 3\), not \(4, 1, 3, 3\).*train again") as caught:
        load_component(component(), path)
    assert "and 15 more of other shapes" in str(caught.value) and len(str(caught.value)) < 600
    with pytest.raises(InputError, match=r"missing 0\.bias.*and 4 more missing.*unexpected 1\.running_mean"):
        load_component(component("discriminator"), path)


def test_nan_weights_are_refused(tmp_path):
    broken, path = component(), tmp_path / "component.safetensors"
    broken[0].weight.data[0] = float("nan")
    save_component(broken, path)
    with pytest.raises(InputError, match=r"0\.weight holds NaN"):
        load_component(component(), path)
