"""Checkpoints as people have them: the weights are found and fit, or the refusal says why not."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from oodcert.models.released_checkpoints import load_checkpoint
from oodcert.models.weight_files import load_weights, read_state
from oodcert.models.weight_names import renamed
from original_architectures import random_state, released_shapes
from refusals import assert_refused


def network(outputs=3):
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, outputs))


def same(loaded, state):
    return all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())


@pytest.fixture
def file(tmp_path):
    """Writes what torch.save writes, and returns the path."""

    def write(content, name="weights.pt"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


def prefixed(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "net.", "backbone.", "module._orig_mod.", "_orig_mod.module.", "model.net."],
)
def test_a_prefix_is_stripped_where_nothing_else_differs(file, prefix):
    state = network().state_dict()
    assert same(load_weights(network(), file(prefixed(prefix, state))), state)
    bare = {name: tensor for name, tensor in state.items() if name != "3.bias"}
    text = assert_refused(lambda: load_weights(network(), file(prefixed(prefix, bare))), repr(prefix), "missing 3.bias")
    assert text.count("missing") == 1


def test_wrappers_within_a_network_and_around_the_one_that_is_given(file):
    state = network().state_dict()
    within = {name.replace("0.", "0._orig_mod.", 1) if name[0] == "0" else name: one for name, one in state.items()}
    assert same(load_weights(network(), file(within)), state)
    wrapped = nn.DataParallel(network())
    load_weights(wrapped, file(state))
    assert same(wrapped.module, state)
    averaged = torch.optim.swa_utils.AveragedModel(network())
    assert same(load_weights(network(), file(averaged.state_dict())), averaged.module.state_dict())


def test_names_that_would_mean_one_tensor_twice_are_left_alone():
    state = {"module.weight": torch.zeros(1), "weight": torch.ones(1)}
    assert renamed(state, ["weight"]) == state


def test_a_networks_own_names_come_first(file):
    own = nn.ModuleDict({"model": nn.Linear(2, 2), "module": nn.Linear(2, 2)})
    assert same(
        load_weights(nn.ModuleDict({k: nn.Linear(2, 2) for k in own}), file(own.state_dict())), own.state_dict()
    )


@pytest.mark.parametrize(
    "key",
    ["state_dict", "model_state_dict", "model", "net", "state_dict_ema", "ema", "params", "weights", "net.params"],
)
def test_a_state_dict_is_found_under_any_name(file, key):
    state = network().state_dict()
    content = state
    for name in reversed(key.split(".")):
        content = {name: content}
    optimiser = torch.optim.Adam(network().parameters())
    content |= {"epoch": 3, "optimizer": optimiser.state_dict(), "best": torch.tensor(0.5), "args": {"lr": 0.1}}
    assert same(load_weights(network(), file(content)), state)
    assert read_state(file(content)).keys() == state.keys()


def test_of_several_state_dicts_the_one_that_fits_is_taken(file):
    state = network().state_dict()
    content = {
        "generator": network(5).state_dict(),
        "classifier": prefixed("module.", state),
        "stats": {"mean": torch.ones(9)},
    }
    assert same(load_weights(network(), file(content)), state)
    assert_refused(lambda: load_weights(network(4), file(content)), "does not fit", "not (4,)")


@pytest.mark.parametrize("keys", [("state_dict", "state_dict_ema"), ("model", "ema"), ("params", "params_ema")])
def test_several_that_fit_are_refused_by_name(file, keys):
    content = {key: network().state_dict() for key in keys}
    assert_refused(lambda: load_weights(network(), file(content)), *keys, "file of its own")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_another_size_become_those_of_the_network(file, dtype):
    state = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in network().state_dict().items()
    }
    loaded = load_weights(network(), file(state))
    assert all(tensor.dtype == torch.float32 for tensor in loaded.parameters())
    assert same(loaded, {name: tensor.to(loaded.state_dict()[name].dtype) for name, tensor in state.items()})


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn])
@pytest.mark.parametrize("name", ["0.weight", "1.running_mean"])
def test_what_is_no_float_is_refused_for_one(file, dtype, name):
    state = network().state_dict()
    state[name] = torch.ones(state[name].shape).to(dtype)
    assert_refused(lambda: load_weights(network(), file(state)), f"{name} is of type {dtype}", "torch.float32")


def test_floats_are_refused_for_a_counter(file):
    state = network().state_dict() | {"1.num_batches_tracked": torch.tensor(2.5)}
    assert_refused(lambda: load_weights(network(), file(state)), "1.num_batches_tracked", "torch.float32")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["3.weight", "1.running_var"])
def test_nan_and_infinity_are_refused(file, name, value):
    state = network().state_dict()
    state[name] = state[name].clone()
    state[name].view(-1)[-1] = value
    assert_refused(lambda: load_weights(network(), file(state)), f"{name} holds NaN or infinity")


def test_what_becomes_infinite_in_the_networks_type_is_refused(file):
    state = network().state_dict()
    state["3.weight"] = torch.full(state["3.weight"].shape, 1e300, dtype=torch.float64)
    assert_refused(lambda: load_weights(network(), file(state)), "3.weight holds NaN or infinity")
    state["3.weight"] = torch.full(state["3.weight"].shape, 1e30)
    assert_refused(lambda: load_weights(network().half(), file(state)), "3.weight holds NaN or infinity")


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "bin", "ckpt"])
def test_a_file_is_known_by_its_bytes(file, tmp_path, suffix):
    state = network().state_dict()
    save_file(state, tmp_path / f"one.{suffix}")
    assert same(load_weights(network(), tmp_path / f"one.{suffix}"), state)
    assert same(load_weights(network(), file(state, f"two.{suffix}")), state)
    torch.save(state, tmp_path / f"three.{suffix}", _use_new_zipfile_serialization=False)
    assert same(load_weights(network(), tmp_path / f"three.{suffix}"), state)


def test_a_header_of_any_length_is_one_of_safetensors(tmp_path):
    lengths = set()
    for padding in range(0, 300, 8):  # also 128, the byte that a pickle begins with
        save_file({"weight": torch.ones(2)}, tmp_path / "one.pt", {"note": "n" * padding})
        lengths.add((tmp_path / "one.pt").read_bytes()[0])
        assert read_state(tmp_path / "one.pt")["weight"].sum() == 2
    assert 128 in lengths


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_safetensors_file_that_is_cut_off_is_refused(tmp_path, suffix):
    path = tmp_path / f"torn.{suffix}"
    save_file(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-20])
    assert_refused(lambda: load_weights(network(), path), f"torn.{suffix}", "not a readable file")


@pytest.mark.parametrize(
    "content", [lambda: network(), lambda: {"model": network()}, lambda: {"state_dict": network()}]
)
def test_a_whole_network_is_refused_with_the_remedy(file, content):
    assert_refused(lambda: load_weights(network(), file(content())), "whole network", "network.state_dict()")


@pytest.mark.filterwarnings("ignore")
def test_a_program_is_refused_with_the_remedy(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "script.pt")
    assert_refused(lambda: load_weights(nn.Linear(2, 2), tmp_path / "script.pt"), "TorchScript", "state_dict()")


def test_messages_stay_short(file):
    deep = nn.Sequential(*(nn.Linear(2, 2) for _ in range(500)))
    other = {f"{'layer.' * 40}{index}.{name}": torch.zeros(1) for index in range(500) for name in ("weight", "bias")}
    for state in (other, prefixed("module.", other), {f"{i}.weight": torch.zeros(7) for i in range(500)}):
        text = assert_refused(lambda state=state: load_weights(deep, file(state)), "does not fit", "more")
        assert len(text) < 1500


def test_old_files_without_counters_of_batches_are_read(file):
    state = network().state_dict()
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert same(load_weights(network(), file({"state_dict": prefixed("module.", old), "epoch": 1})), state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_released_weights_are_found_behind_a_prefix(file, prefix):
    state = random_state(released_shapes()["prood-joint"])
    alone = {name.removeprefix("detector."): one for name, one in state.items() if name.startswith("detector.")}
    expected = load_checkpoint(file(alone), "prood-discriminator").state_dict()
    both = {"discriminator": prefixed(prefix, alone), "classifier": {"fc.weight": torch.ones(2)}}
    for content in (prefixed(prefix, alone), prefixed(prefix, state), {"ema": prefixed(prefix, alone)}, both):
        assert same(load_checkpoint(file(content), "prood-discriminator"), expected)
    several = {"model": alone, "ema": prefixed(prefix, alone)}
    assert_refused(lambda: load_checkpoint(file(several), "prood-discriminator"), "model, ema")
    alone = prefixed(prefix, {name: tensor for name, tensor in alone.items() if name != "C1.bias"})
    assert_refused(lambda: load_checkpoint(file(alone), "prood-discriminator"), "missing C1.bias", repr(prefix))
