"""How fast a profile's networks are on this machine: forward passes a second."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from inspect import signature
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from oodcert.certification.monte_carlo import BATCH_VALUES
from oodcert.config.external_weights import imported
from oodcert.config.models import Config
from oodcert.errors import InputError
from oodcert.models.architectures.denoiser import DiffusionDenoiser
from oodcert.models.components import build_component
from oodcert.runtime.memory import is_out_of_memory

BATCHES, SECONDS = 3, 0.5  # that a measurement takes at least
SMALLEST, WORTH = 32, 1.05  # batch size that is tried first; what twice a batch must gain to be worth it


def measured_rates(config: Config, components: Iterable[str], device: str) -> dict[str, float]:
    """Forward passes (images) a second on a device, in batches of evaluation.batch_size, of every network.

    By component where it has a network of its own, "classifier" for the others. Weights are fresh.

    Args:
        config: the checked config.
        components: names of components.
        device: "cpu" or "cuda".

    Returns:
        Images a second by component.
    """
    images = torch.rand(config.evaluation.batch_size, *config.data.image_shape, dtype=torch.float32, device=device)
    return {name: _rate(module, images) for name, module in _measured(config, components, device)}


def best_batches(config: Config, components: Iterable[str], device: str) -> dict[str, tuple[int, float]]:
    """(batch size, rate) of these networks, in the precision of certify_l2.

    The size is the first power of two whose double is not WORTH it or does not fit. No batch has more values than
    oodcert.certification.monte_carlo gives one by default.

    Args:
        config: the checked config.
        components: names of components.
        device: "cpu" or "cuda".

    Returns:
        (batch size, images a second) by component.
    """
    precision, shape = config.evaluation.certify_l2.precision, config.data.image_shape
    best: dict[str, tuple[int, float]] = {}
    for name, module in _measured(config, components, device):
        larger = SMALLEST
        while name not in best or larger * prod(shape) <= BATCH_VALUES:
            try:
                with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
                    rate = _rate(module, torch.rand(larger, *shape, dtype=torch.float32, device=device))
            except RuntimeError as error:
                if name not in best or not is_out_of_memory(error):
                    raise
                break
            if name in best and rate < WORTH * best[name][1]:
                break
            best[name], larger = (larger, rate), 2 * larger
    return best


def forward_pass(module: nn.Module, images: Tensor) -> Any:
    """One pass: of a denoiser through its noise model, whose timestep needs a storage, or, user-supplied, with a sigma.

    Args:
        module: a component in evaluation mode, on the device of the images.
        images: float32 [N, C, H, W].

    Returns:
        What the module gives.

    Raises:
        InputError: if the module fails on these images.
    """
    if isinstance(module, DiffusionDenoiser):
        return module.noise_model(images, torch.zeros(len(images), dtype=torch.float32, device=images.device))
    needed = [one for one in signature(module.forward).parameters.values() if one.default is one.empty]
    try:
        return module(images, 0.25) if len(needed) == 2 else module(images)
    except Exception as error:  # a user-supplied network is any code
        raise InputError(
            f"The network {type(module).__name__} fails on images of shape {tuple(images.shape)} ({error!r}). Correct "
            "it, or data.image_shape of the config."
        ) from error


def _measured(config: Config, components: Iterable[str], device: str) -> Iterator[tuple[str, nn.Module]]:
    """(name, module on the device) of every network that the components have, once each."""
    networks = config.networks.as_json() | {name: one.network for name, one in imported(config).items()}
    shape, classes, seen = config.data.image_shape, config.data.num_classes, set()
    for component in components:
        name = component if component in networks else "classifier"
        if name not in seen:
            seen.add(name)
            yield name, build_component(component, networks, shape, classes).to(device).eval()


def _rate(module: nn.Module, images: Tensor) -> float:
    with torch.inference_mode():
        _timed(module, images)
        batches, seconds = 0, 0.0
        while batches < BATCHES or seconds < SECONDS:
            batches, seconds = batches + 1, seconds + _timed(module, images)
    return batches * len(images) / seconds


def _timed(module: nn.Module, images: Tensor) -> float:
    started = time.perf_counter()
    forward_pass(module, images)
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
