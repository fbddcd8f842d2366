"""Released weights: files with their names and shapes load, and nothing else does; what loads computes what the
originals compute (tests/support/original_architectures.py), on random weights."""

import os
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

import oodcert
from conftest import ROOT
from interval_boxes import attacks, random_images, randomised
from oodcert.certification.interval_propagation import interval_bounds, logit_difference_bounds
from oodcert.errors import InputError
from oodcert.models import released_checkpoints
from oodcert.models.architectures.cnn import cnn
from oodcert.models.architectures.denoiser import DiffusionDenoiser, cosine_schedule
from oodcert.models.architectures.improved_unet import ImprovedUNet
from oodcert.models.architectures.normalise import Normalise
from oodcert.models.components import build_component, load_component, save_component
from oodcert.models.networks import build_network
from oodcert.models.released_checkpoints import FORMATS, released_names, released_network
from original_architectures import (
    ORIGINALS,
    cosine_alphas,
    discriminator,
    improved_unet,
    random_state,
    released_shapes,
    resnet18,
)

SHAPES = released_shapes()
CLASSIFIERS = [name for name, format in FORMATS.items() if format.role == "classifier"]
EXAMPLES = {  # format -> shapes in a file of it
    **{name: shapes for name, shapes in SHAPES.items() if name in FORMATS},
    **{
        f"prood-{role}": {
            name.removeprefix(prefix): shape for name, shape in SHAPES["prood-joint"].items() if name.startswith(prefix)
        }
        for role, prefix in (("classifier", "base_model."), ("discriminator", "detector."))
    },
}


def images(count=3):
    """Images in [0, 1] that differ in more than their noise."""
    coarse = random_images(count, 3, 4, 4, dtype=torch.float32).repeat_interleave(8, 2).repeat_interleave(8, 3)
    return (coarse + 0.1 * random_images(count, 3, 32, 32, seed=1, dtype=torch.float32)).clamp(0, 1)


def doubled(state):
    return {name: tensor.double() for name, tensor in state.items()}


@pytest.fixture
def loaded(tmp_path):
    """load_checkpoint of a state, through a file."""
    path = tmp_path / "weights.pt"

    def load(state, format):
        torch.save(state, path)
        return oodcert.load_checkpoint(path, format=format)

    yield load
    path.unlink(missing_ok=True)  # some have 200 MB


@pytest.fixture
def held(monkeypatch):
    """load_checkpoint of a state, as if a file held it."""

    def load(state, format):
        monkeypatch.setattr(released_checkpoints, "read_state", lambda path, fits: state)
        return oodcert.load_checkpoint("weights.pt", format=format)

    return load


def agree(network, original, state):
    """Whether both give the same logits, in single and in double precision, and logits that tell images apart."""
    with torch.inference_mode():
        expected = original(images().double(), doubled(state))
        scale = expected.std(0).mean()
        assert scale > 1e-3
        assert (network(images()) - expected).abs().max() < min(1e-4, 1e-3 * scale)
        assert (network.double()(images().double()) - expected).abs().max() < 1e-6 * scale


@pytest.mark.parametrize("example", ORIGINALS)
def test_the_import_computes_what_the_original_computes(loaded, example):
    state = random_state(SHAPES[example])
    network = loaded(state, example.removesuffix("-100"))
    assert not any(module.training for module in network.modules())
    assert all(tensor.dtype == torch.float32 and tensor.requires_grad for tensor in network.parameters())
    agree(network, ORIGINALS[example], state)


@pytest.mark.parametrize(("role", "prefix", "original"), [
    ("classifier", "base_model.", resnet18), ("discriminator", "detector.", discriminator),
])  # fmt: skip
def test_components_of_the_joint_model_come_from_its_file_or_from_files_of_their_own(held, role, prefix, original):
    joint = random_state(SHAPES["prood-joint"])
    alone = {name.removeprefix(prefix): tensor for name, tensor in joint.items() if name.startswith(prefix)}
    for state in (joint, alone):
        agree(held(state, f"prood-{role}"), original, alone)


def test_the_joint_network_has_the_classes_of_its_file(held):
    for example, classes in (("prood-joint", 10), ("prood-joint-100", 100)):
        network = held(random_state(SHAPES[example]), "prood-joint")
        assert isinstance(network, oodcert.JointNetwork) and network.num_classes == classes
        assert torch.allclose(network(images()).exp().sum(1), torch.ones(3), atol=1e-5)


def test_the_denoiser_computes_what_the_original_computes(loaded):
    state, noisy = random_state(SHAPES["improved-diffusion"]), images(1) + 0.1
    denoiser = loaded(state, "improved-diffusion")
    assert isinstance(denoiser, DiffusionDenoiser) and sum(t.numel() for t in denoiser.parameters()) == 52_546_438
    with torch.inference_mode():
        noise = improved_unet(noisy, 573.25, state)[:, :3]
        assert noise.std() > 0.1
        assert torch.allclose(denoiser.noise_model(noisy, torch.tensor([573.25])), noise, atol=1e-4)
        signal = 1 / (1 + 0.24**2) ** 0.5
        scaled = signal * (2 * noisy - 1)
        clean = (
            scaled - (1 - signal**2) ** 0.5 * improved_unet(scaled, denoiser.timestep(0.12), state)[:, :3]
        ) / signal
        assert torch.allclose(denoiser(noisy, 0.12), clean.clamp(-1, 1) / 2 + 0.5, atol=1e-4)


@pytest.mark.parametrize("timesteps", [(0.0, 3999.0), (1.5, 572.9)])
def test_a_narrow_unet_computes_what_the_original_computes_at_any_timestep(timesteps):
    unet = ImprovedUNet(32).double().eval()
    state = doubled(random_state({name: tensor.shape for name, tensor in unet.state_dict().items()}))
    unet.load_state_dict(state)
    noisy = images(2).double()
    expected = torch.cat([improved_unet(x[None], t, state)[:, :3] for x, t in zip(noisy, timesteps, strict=True)])
    assert torch.allclose(unet(noisy, torch.tensor(timesteps, dtype=torch.float64)), expected, atol=1e-9)
    assert not torch.allclose(unet(noisy, torch.tensor(timesteps) + 4), expected, atol=1e-2)


def test_the_schedule_is_that_of_the_paper():
    alphas, ours = torch.tensor(cosine_alphas(4000), dtype=torch.float64), cosine_schedule(4000)
    levels = [((1 - product) / product).sqrt() for product in (alphas, ours)]
    assert torch.allclose(*levels, rtol=2e-3) and torch.allclose(levels[0][100:], levels[1][100:], rtol=1e-4)
    first = int(torch.searchsorted(levels[0], torch.tensor(0.24, dtype=torch.float64)))  # that reaches sigma 0.12
    assert first - 1 < DiffusionDenoiser(nn.Identity(), ours).timestep(0.12) <= first


@pytest.mark.parametrize("format", FORMATS)
def test_the_names_and_shapes_are_those_of_the_released_file(format):
    with torch.device("meta"):
        network = released_network(format, 11 if format == "atom" else 10)
    names, state = released_names(format, network), network.state_dict()
    assert names.keys() == state.keys() and len(set(names.values())) == len(names)
    assert {theirs: list(state[ours].shape) for ours, theirs in names.items()} == EXAMPLES[format]


@pytest.mark.parametrize("format", FORMATS)
def test_a_tensor_missing_added_reshaped_or_not_finite_is_named(held, format):
    state = {name: torch.zeros(shape) for name, shape in EXAMPLES[format].items()}
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    for name in (names[0], names[len(names) // 2], names[-1]):
        shape = tuple(state[name].shape)
        for changed, message in (
            ({key: tensor for key, tensor in state.items() if key != name}, f"missing {name}"),
            (state | {f"{name}.more": torch.zeros(1)}, f"unexpected {name}.more"),
            (state | {name: torch.zeros(*shape, 1)}, f"{name} is {(*shape, 1)}, not {shape}"),
            (state | {name: torch.full(shape, torch.inf)}, f"{name} holds NaN or infinity"),
        ):
            with pytest.raises(InputError, match=f"weights.pt does not hold the weights of '{format}'") as caught:
                held(changed, format)
            assert message in str(caught.value)
    with pytest.raises(InputError) as caught:
        held({}, format)
    assert f"and {len(state) - 3} more missing" in str(caught.value) and len(str(caught.value)) < 600


def test_a_file_of_another_format_is_refused(held):
    state = random_state(SHAPES["vos"])
    for format in ("acet", "good", "prood-joint", "improved-diffusion"):
        with pytest.raises(InputError, match=r"missing .*unexpected .*Check the path and the format"):
            held(state, format)
    with pytest.raises(InputError, match=r"'resnet': use one of prood-joint, .*improved-diffusion"):
        held(state, "resnet")


@pytest.mark.parametrize("wrap", [
    lambda state: {"epoch": 100, "state_dict": state},
    lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
    lambda state: {name: nn.Parameter(tensor) if tensor.ndim else tensor for name, tensor in state.items()},
    lambda state: {name: tensor.half() if tensor.ndim else tensor for name, tensor in state.items()},
])  # fmt: skip
def test_common_wrappings_of_a_state_dict_are_read(loaded, wrap):
    state = {
        name: tensor.half().float() if tensor.ndim else tensor
        for name, tensor in random_state(SHAPES["logitnorm"]).items()
    }
    agree(loaded(wrap(state), "logitnorm"), ORIGINALS["logitnorm"], state)


class Command:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_refused_and_does_not_run(loaded, tmp_path):
    for state in (Command(tmp_path / "ran"), SHAPES["good"] | {"C1.weight": Command(tmp_path / "ran")}):
        with pytest.raises(InputError, match=r"weights\.pt: refused, .*could run code"):
            loaded(state, "good")
        assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_numbers_are_refused(loaded):
    state = random_state(EXAMPLES["prood-discriminator"])
    weight = state["C1.weight"]
    for strange in (weight.long(), weight.to(torch.complex64), torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)):
        with pytest.raises(InputError, match=rf"C1\.weight is of type {strange.dtype}"):
            loaded(state | {"C1.weight": strange}, "prood-discriminator")
    for strange in (weight.to("meta"), weight.to_sparse(), 3):
        with pytest.raises(InputError, match="holds no state dict"):
            loaded(state | {"C1.weight": strange}, "prood-discriminator")


def test_what_is_no_file_of_weights_is_named(loaded, tmp_path):
    loaded(random_state(EXAMPLES["prood-discriminator"]), "prood-discriminator")
    path, whole = tmp_path / "weights.pt", (tmp_path / "weights.pt").read_bytes()
    for content, message in (
        (whole[: len(whole) // 2], r"weights\.pt: not a readable file of weights, perhaps cut off .*Get it again"),
        (b"", r"weights\.pt: not a readable file of weights"),
        (
            b"\n<!DOCTYPE html><html>sign in</html>",
            r"weights\.pt: a web page, not a file of weights. Open it in a browser",
        ),
        (b"abc" * 100, r"weights\.pt: (refused|not a readable)"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            oodcert.load_checkpoint(path, format="prood-discriminator")
    with pytest.raises(InputError, match=r"nothing\.pt: no such file"):
        oodcert.load_checkpoint(tmp_path / "nothing.pt", format="vos")


def test_reading_leaves_the_random_numbers_and_the_file_tensors_alone(held):
    state = random_state(SHAPES["acet"])
    before, weight = torch.get_rng_state(), state["conv1.weight"].clone()
    network = held(state, "acet")
    assert torch.equal(torch.get_rng_state(), before)
    network[1].weight.data.zero_()
    assert torch.equal(state["conv1.weight"], weight)


@pytest.mark.parametrize("format", CLASSIFIERS)
def test_released_classifiers_are_features_and_a_linear_head(format):
    network = released_network(format, 7).eval()
    assert type(network) is nn.Sequential and type(network[-1]) is nn.Linear and network[-1].out_features == 7
    assert isinstance(network[0], Normalise) == (format not in ("prood-classifier", "good"))
    assert network[:-1](images()).ndim == 2


def test_the_normalisation_of_a_box_is_exact():
    layer = Normalise([0.49, 0.48, 0.45], [0.25, 0.24, 0.26])
    lower, upper = images() - 0.01, images() + 0.01
    low, high = interval_bounds(layer, lower, upper)
    assert torch.equal(low, layer(lower)) and torch.equal(high, layer(upper))
    red = (lower[:, 0] - 0.49) / 0.25
    assert torch.allclose(low[:, 0], red)


def test_bounds_go_through_the_normalisation():
    network = nn.Sequential(Normalise([0.49, 0.48, 0.45], [0.25, 0.24, 0.26]), *randomised(cnn((3, 8, 8), 3, 4)))
    network = network.eval().double()
    centre = random_images(2, 3, 8, 8)
    lower, upper = centre - 0.01, centre + 0.01
    low, high = interval_bounds(network, lower, upper)
    differences = logit_difference_bounds(network, lower, upper)
    for point in attacks(network, lower, upper):
        logits = network(point)
        assert bool((low <= logits).all()) and bool((logits <= high).all())
        assert bool((logits[:, :, None] - logits[:, None, :] <= differences + 1e-12).all())
    assert torch.allclose(interval_bounds(network, centre, centre)[0], network(centre))


def released_networks(classifier="vos", denoiser="improved-diffusion"):
    return {
        "classifier": {"name": "released", "format": classifier},
        "discriminator": {"name": "released", "format": "prood-discriminator"},
        "denoiser": {"name": "released", "format": denoiser},
    }


@pytest.mark.parametrize(("component", "format", "example"), [
    ("plain", "prood-classifier", "prood-classifier"), ("vos", "vos", "vos"), ("atom", "atom", "atom"),
    ("discriminator", "prood-discriminator", "prood-discriminator"),
    ("denoiser", "improved-diffusion", "improved-diffusion"),
])  # fmt: skip
def test_an_imported_component_is_saved_and_loaded_like_a_trained_one(held, tmp_path, component, format, example):
    imported, path = held(random_state(EXAMPLES[example]), format), tmp_path / f"{component}.safetensors"
    save_component(imported, path)
    networks = released_networks(format if FORMATS[format].role == "classifier" else "vos")
    loaded = load_component(build_component(component, networks, [3, 32, 32], 10), path)
    path.unlink()
    same = {name: torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in imported.state_dict().items()}
    assert all(same.values()) and not loaded.training
    if component != "denoiser":
        assert torch.equal(loaded(images()), imported(images()))


@pytest.mark.parametrize(("shape", "outputs", "format", "message"), [
    ((1, 28, 28), 10, "vos", r"shape \(3, 32, 32\), not \(1, 28, 28\)"),
    ((3, 32, 32), 10, "improved-diffusion", "is a denoiser, not a classifier: use prood-classifier, good"),
    ((3, 32, 32), 10, "prood-joint", "is a joint, not a classifier"),
    ((3, 32, 32), 1, "vos", "is a classifier, not a discriminator: use prood-discriminator"),
    ((3, 32, 32), 10, "resnet", "use one of prood-joint"),
])  # fmt: skip
def test_a_released_network_that_does_not_suit_the_config_is_refused(shape, outputs, format, message):
    with pytest.raises(InputError, match=message):
        build_network({"name": "released", "format": format}, shape, outputs)


def test_a_classifier_is_no_denoiser():
    with pytest.raises(InputError, match="is a classifier, not a denoiser: use improved-diffusion"):
        build_component("denoiser", released_networks(denoiser="vos"), (3, 32, 32), 10)


def test_the_page_tells_of_every_format():
    page = (ROOT / "docs" / "weights.md").read_text()
    assert all(f"| `{name}` |" in page for name in FORMATS)


def test_the_example_of_the_page_composes_distro(monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "weights.md").read_text(), re.DOTALL)
    monkeypatch.setitem(vars(oodcert), "load_checkpoint", lambda path, format: released_network(format, 10).eval())
    names = {}
    exec(code, names)
    with torch.inference_mode():
        assert torch.allclose(names["distro"](images(1)).exp().sum(1), torch.ones(1), atol=1e-5)


def test_the_module_can_be_imported_first():
    subprocess.run([sys.executable, "-c", "import oodcert.models.released_checkpoints"], check=True)
