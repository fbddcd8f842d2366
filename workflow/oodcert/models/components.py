"""The trained components of methods on disk: safetensors, which holds tensors and no code."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from oodcert.config.components import declared_component, known_components
from oodcert.errors import InputError
from oodcert.models.architectures.denoiser import DiffusionDenoiser, cosine_schedule
from oodcert.models.architectures.mlp_denoiser import ResidualMLP
from oodcert.models.architectures.patch_unet import PatchUNet
from oodcert.models.networks import build_network
from oodcert.models.released_checkpoints import load_checkpoint
from oodcert.models.user_networks import load_network
from oodcert.models.weight_files import load_weights, mismatches
from oodcert.runtime.files import atomic
from oodcert.runtime.torch_setup import in_float32


def build_component(
    component: str, networks: Mapping[str, Mapping[str, Any]], image_shape: Sequence[int], num_classes: int | None
) -> nn.Module:
    """An untrained component: a classifier, the "discriminator" (one logit) or the "denoiser".

    A classifier without an entry in `networks` takes the network of "classifier". An entry {"name": "own", "network":
    "module:name"} stands for a user-supplied network, which load_network makes.

    Args:
        component: Name of the component.
        networks: The config's `networks`: component -> name and options of its network.
        image_shape: (C, H, W).
        num_classes: K. A denoiser needs none.

    Returns:
        The module with fresh weights, in training mode.

    Raises:
        InputError: The component or its network is unknown, or the network's options are wrong.
    """
    if networks.get(component, {}).get("name") == "own":
        return load_network(networks[component]["network"])
    with in_float32():
        return _build(component, networks, image_shape, num_classes)


def _build(
    component: str, networks: Mapping[str, Mapping[str, Any]], image_shape: Sequence[int], num_classes: int | None
) -> nn.Module:
    if component == "denoiser":
        return _build_denoiser(networks["denoiser"], image_shape)
    if component == "discriminator":
        return build_network(networks["discriminator"], image_shape, 1)
    assert num_classes is not None
    outputs = num_classes + declared_component(component).extra_outputs
    return build_network(networks.get(component) or networks["classifier"], image_shape, outputs)


def _build_denoiser(spec: Mapping[str, Any], image_shape: Sequence[int]) -> nn.Module:
    if spec.get("name") == "released":
        return build_network(spec, image_shape, None)
    noise_model: nn.Module
    if spec.get("name") == "mlp":
        noise_model = ResidualMLP(image_shape, spec["width"])
    else:
        noise_model = PatchUNet(image_shape, spec["channels"], spec["patch"])
    return DiffusionDenoiser(noise_model, cosine_schedule(spec["timesteps"]))


def import_component(
    component: str, spec: Mapping[str, Any], path: str | Path, image_shape: Sequence[int], num_classes: int
) -> nn.Module:
    """A component with weights that were trained elsewhere.

    Args:
        component: Name of the component.
        spec: {"name": "released", "format": ...} for released weights, or {"name": "own", "network": "module:name"}
            for a user-supplied network.
        path: The file of weights.
        image_shape: (C, H, W).
        num_classes: K.

    Returns:
        The module in evaluation mode.

    Raises:
        InputError: The file is not of that network, or the network does not fit the images and classes.
    """
    if spec["name"] == "released":
        module = load_checkpoint(path, spec["format"])
    else:
        module = load_weights(build_component(component, {component: spec}, image_shape, num_classes), path).eval()
    blank = torch.zeros(1, *image_shape, dtype=torch.float32)
    try:
        with torch.inference_mode():
            output = tuple((module(blank, 0.25) if component == "denoiser" else module(blank)).shape)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: the network of {component!r} can't take images of shape {image_shape} ({error})."
        ) from error
    extra = known_components()[component].extra_outputs if component in known_components() else 0
    expected = {"denoiser": tuple(blank.shape), "discriminator": (1, 1)}.get(component, (1, num_classes + extra))
    if output != expected:
        raise InputError(
            f"{path}: the network of {component!r} gives {output} for one image, not {expected}. Import one for "
            f"{num_classes} classes, or correct data.num_classes."
        )
    return module


def save_component(module: nn.Module, path: str | Path) -> None:
    """Writes a component's tensors, whole or not at all.

    Args:
        module: The component.
        path: A .safetensors file, which is replaced where it exists.
    """
    with atomic(path) as temporary:
        save_file({name: tensor.contiguous().cpu().clone() for name, tensor in module.state_dict().items()}, temporary)


def load_component(module: nn.Module, path: str | Path) -> nn.Module:
    """Loads tensors into a component built from the config and puts it in evaluation mode.

    Args:
        module: The component, of build_component; it is changed in place.
        path: A .safetensors file of save_component.

    Returns:
        The same module.

    Raises:
        InputError: The file is missing or corrupt, does not fit the module tensor by tensor, or holds NaN.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist: train this component first, for example with `snakemake {path}`.")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error}): delete it and train again.") from error
    faults = mismatches(tensors, module.state_dict())
    if faults:
        raise InputError(
            f"{path} does not fit the network of the config: {'; '.join(faults)}. "
            "Use the `networks` settings it was trained with, or delete it and train again."
        )
    module.load_state_dict(tensors)
    return module.eval()
