"""Networks of strangers: found by "package.module:name", with weights from a file that is never executed."""

import os
import pickle
import sys
from importlib import import_module
from inspect import signature
from operator import attrgetter
from pathlib import Path
from textwrap import shorten
from zipfile import ZipFile, is_zipfile

import torch
from safetensors.torch import load_file
from torch import nn

from oodcert.errors import InputError

LONGEST = 2000  # characters of a list of mismatches
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def load_object(spec):
    """What "package.module:name" names; the current directory is importable. Raises InputError where nothing does."""
    module, _, name = spec.partition(":")
    if not (module and name):
        raise InputError(f"{spec!r}: write package.module:name, for example torchvision.models:resnet18.")
    if module.startswith("."):
        raise InputError(f"{spec}: a relative module. Write its whole name, such as package.module:name.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = import_module(module)
    except ImportError as error:
        raise InputError(
            f"{spec}: can't import {module} ({error}). Run from the folder that holds it, or install it."
        ) from error
    except Exception as error:  # it is any code
        raise InputError(f"{spec}: importing {module} fails with {error!r}. Correct that module.") from error
    try:
        return attrgetter(name)(found)
    except AttributeError as error:
        raise InputError(f"{spec}: {error}. Check the name after the colon.") from error


def load_network(spec):
    """The nn.Module that spec names, or that the callable it names returns when called without arguments.

    It is called at torch seed 0, so that weights drawn at random are the same in every process.
    Raises InputError where there is no such module or name, the callable needs arguments, or no nn.Module comes out.
    """
    network = load_object(spec)
    if not isinstance(network, nn.Module) and callable(network):
        try:
            signature(network).bind()
        except TypeError as error:
            raise InputError(
                f"{spec}: can't be called without arguments ({error}). Name a function that returns the network, "
                "for example `def network(): return Net(num_classes=10)`."
            ) from error
        torch.manual_seed(0)
        try:
            network = network()
        except Exception as error:  # it is any code
            raise InputError(f"{spec}: calling it fails with {error!r}. Correct that function.") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"{spec}: gives a {type(network).__name__}, but a torch.nn.Module is needed.")
    return network


def load_weights(network, path):
    """Loads a state dict into a network, name by name and shape by shape, and returns the network.

    path: as for read_state. Raises InputError as read_state does, and where the file does not fit the network.
    """
    state = read_state(path)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit the network. {shorten(str(error), LONGEST)}") from error
    return network


def read_state(path):
    """The tensors of a file of weights, on the CPU: name -> plain tensor. Nothing in the file is ever executed.

    path: a .safetensors file, or what torch.save wrote: a state dict, or a dict that holds one as "state_dict" or
    "model". Raises InputError where the file is missing, a web page or corrupt, and where it holds more than tensors
    and plain values (it could run code).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file. Check the path of the weights.")
    with path.open("rb") as file:
        if file.read(512).lstrip().lower().startswith((b"<!doctype", b"<html")):
            raise InputError(
                f"{path}: a web page, not a file of weights. Open it in a browser and download from there."
            )
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            _refuse_packed(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: refused, since it is corrupt or holds objects that could run code. Save the tensors alone: "
            f"torch.save(network.state_dict(), path). {shorten(str(error), 300)}"
        ) from error
    except Exception as error:  # torch and safetensors raise many kinds on corrupt files
        raise InputError(
            f"{path}: not a readable file of weights, perhaps cut off ({shorten(str(error), 300)}). Get it again."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and type(tensor) in (torch.Tensor, nn.Parameter) and _is_dense(tensor)
        for key, tensor in state.items()
    ):
        raise InputError(f"{path}: holds no state dict. Save one with torch.save(network.state_dict(), path).")
    return {key: torch.Tensor.detach(tensor) for key, tensor in state.items()}  # a file may set a tensor's attributes


def _is_dense(tensor):
    return tensor.layout is torch.strided and not (tensor.is_meta or tensor.is_nested)


def _refuse_packed(path):
    """torch.save packs nothing, so what unpacks to more than the file has bytes is a bomb."""
    if is_zipfile(path):
        with ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                raise ValueError("it unpacks to more bytes than it has")


def mismatches(tensors, expected):
    """What keeps tensors from taking the place of the expected ones, both name -> tensor: a sorted list of phrases."""
    faults = [f"missing {name}" for name in expected.keys() - tensors.keys()]
    faults += [f"unexpected {name}" for name in tensors.keys() - expected.keys()]
    faults += [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(expected[name].shape)}"
        for name in expected.keys() & tensors.keys()
        if tensors[name].shape != expected[name].shape
    ]
    faults += [
        f"{name} is of type {tensors[name].dtype}"
        for name in expected.keys() & tensors.keys()
        if (tensors[name].dtype in FLOATS) != expected[name].is_floating_point()
    ]
    faults += [
        f"{name} holds NaN or infinity"
        for name in expected.keys() & tensors.keys()
        if tensors[name].shape == expected[name].shape  # others can be of any size
        and tensors[name].dtype in FLOATS
        and not torch.isfinite(tensors[name].float()).all()
    ]
    return sorted(faults)
