"""Trained parts on disk: safetensors, which holds tensors and no code."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from oodcert.config.components import declared_component, known_components
from oodcert.errors import InputError
from oodcert.models.architectures import build_network
from oodcert.models.architectures.denoiser import DiffusionDenoiser, PatchUNet, cosine_schedule
from oodcert.models.architectures.mlp_denoiser import ResidualMLP
from oodcert.models.released_checkpoints import load_checkpoint
from oodcert.models.user_networks import load_network, load_weights, mismatches
from oodcert.runtime.files import atomic


def build_component(part, networks, image_shape, num_classes):
    """An untrained part by the config's `networks`: a classifier, the "discriminator" (one logit) or the "denoiser".

    A part without a network of its own takes that of "classifier". {"name": "own", "network": "module:name"} is what
    `load_network` makes of the latter.
    """
    if networks.get(part, {}).get("name") == "own":
        return load_network(networks[part]["network"])
    if part == "denoiser":
        spec = networks["denoiser"]
        if spec.get("name") == "published":
            return build_network(spec, image_shape, None)
        if spec.get("name") == "mlp":
            noise_model = ResidualMLP(image_shape, spec["width"])
        else:
            noise_model = PatchUNet(image_shape, spec["channels"], spec["patch"])
        return DiffusionDenoiser(noise_model, cosine_schedule(spec["timesteps"]))
    if part == "discriminator":
        return build_network(networks["discriminator"], image_shape, 1)
    outputs = num_classes + declared_component(part).extra_outputs
    return build_network(networks.get(part) or networks["classifier"], image_shape, outputs)


def import_component(part, spec, path, image_shape, num_classes):
    """A part with weights of others, in evaluation mode.

    spec: {"name": "published", "format": ...} or {"name": "own", "network": "module:name"}. path: the file of weights.
    Raises InputError where the file is not of that network, and where the network does not fit the images and classes.
    """
    if spec["name"] == "published":
        module = load_checkpoint(path, spec["format"])
    else:
        module = load_weights(build_component(part, {part: spec}, image_shape, num_classes), path).eval()
    blank = torch.zeros(1, *image_shape)
    try:
        with torch.inference_mode():
            found = tuple((module(blank, 0.25) if part == "denoiser" else module(blank)).shape)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: the network of {part!r} can't take images of shape {image_shape} ({error})."
        ) from error
    extra = known_components()[part].extra_outputs if part in known_components() else 0
    expected = {"denoiser": tuple(blank.shape), "discriminator": (1, 1)}.get(part, (1, num_classes + extra))
    if found != expected:
        raise InputError(
            f"{path}: the network of {part!r} gives {found} for one image, not {expected}. Import one for "
            f"{num_classes} classes, or correct data.num_classes."
        )
    return module


def save_component(module, path):
    """Writes a part's tensors, whole or not at all."""
    with atomic(path) as temporary:
        save_file({name: tensor.contiguous().cpu().clone() for name, tensor in module.state_dict().items()}, temporary)


def load_component(module, path):
    """Loads tensors into a part built from the config and puts it in evaluation mode.

    Raises InputError where the file is missing or corrupt, does not fit the module tensor by tensor, or holds NaN.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist: train this part first, for example with `snakemake {path}`.")
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
