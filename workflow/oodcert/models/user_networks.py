"""User-supplied networks and functions, named by "package.module:name"."""

import os
import sys
from importlib import import_module
from inspect import signature
from operator import attrgetter
from types import ModuleType
from typing import Any

import torch
from torch import nn

from oodcert.errors import InputError


def load_object(spec: str) -> Any:
    """The object that "package.module:name" names. The current directory is importable.

    Args:
        spec: Such as "torchvision.models:resnet18". The name may have dots.

    Returns:
        The object, of any type.

    Raises:
        InputError: The spec has another form, its module can't be imported, or the module has no such name.
    """
    module_name, _, name = spec.partition(":")
    if not (module_name and name):
        raise InputError(f"{spec!r}: write package.module:name, for example torchvision.models:resnet18.")
    if module_name.startswith("."):
        raise InputError(f"{spec}: a relative module. Write its whole name, such as package.module:name.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = _imported(module_name)
    except ImportError as error:
        raise InputError(
            f"{spec}: can't import {module_name} ({error}). Run from the folder that holds it, or install it."
        ) from error
    except Exception as error:  # it is any code
        raise InputError(f"{spec}: importing {module_name} fails with {error!r}. Correct that module.") from error
    try:
        return attrgetter(name)(module)
    except AttributeError as error:
        raise InputError(f"{spec}: {error}. Check the name after the colon.") from error


def _imported(name: str) -> ModuleType:
    """Imports a module without leaving a compiled copy behind, which could be taken for a later source."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        return import_module(name)
    finally:
        sys.dont_write_bytecode = before


def load_network(spec: str) -> nn.Module:
    """The nn.Module that a spec names, or that the callable it names returns when called without arguments.

    The callable is called at torch seed 0, so that weights drawn at random are the same in every process.

    Args:
        spec: "package.module:name".

    Returns:
        The network.

    Raises:
        InputError: There is no such module or name, the callable needs arguments, or the result is no nn.Module.
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
