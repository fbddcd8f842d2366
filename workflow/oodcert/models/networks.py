"""Networks by name, as the config gives them.

Every classifier is an nn.Sequential whose last module is the linear head: network[:-1] gives the penultimate features
[N, F], network[-1], an nn.Linear, maps them to logits. Inputs are images in [0, 1]. Only some networks of released
weights normalise them, in their first layer.
"""

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

from torch import nn

from oodcert.errors import InputError
from oodcert.models.architectures.cnn import cnn
from oodcert.models.architectures.densenet import densenet
from oodcert.models.architectures.ibp_cnn import ibp_cnn_s, ibp_cnn_xl
from oodcert.models.architectures.resnet import patch_resnet, resnet, resnet18
from oodcert.models.architectures.wideresnet import wideresnet
from oodcert.models.released_checkpoints import released_component

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "cnn": cnn,
    "densenet": densenet,
    "ibp_cnn_s": ibp_cnn_s,
    "ibp_cnn_xl": ibp_cnn_xl,
    "patch_resnet": patch_resnet,
    "released": released_component,
    "resnet": resnet,
    "resnet18": resnet18,
    "wideresnet": wideresnet,
}


def build_network(spec: Mapping[str, Any], image_shape: Sequence[int], outputs: int | None) -> nn.Module:
    """The network of a config entry such as {"name": "cnn", "width": 16}, with fresh weights.

    Args:
        spec: The network's name and its options.
        image_shape: (C, H, W).
        outputs: Number of logits. None asks for a released denoiser.

    Returns:
        The network in training mode.

    Raises:
        InputError: The name is unknown, or an option is unknown or missing.
    """
    options = dict(spec)
    name = options.pop("name", None)
    if name not in NETWORKS:
        raise InputError(f"Unknown network {name!r}: use one of {', '.join(sorted(NETWORKS))}.")
    allowed = list(signature(NETWORKS[name]).parameters)[2:]
    faults = [f"{option} is missing" for option in allowed if option not in options]
    faults += [f"{option} is unknown" for option in options if option not in allowed]
    if faults:
        raise InputError(f"Options of the network {name}: {', '.join(faults)}. Give {' and '.join(allowed)}.")
    return NETWORKS[name](image_shape, outputs, **options)
