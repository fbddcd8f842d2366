"""What a profile's networks weigh: bytes on disk and in memory.

Weights are exact, on networks without storage (torch's meta device). Memory is an estimate: see `memory`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from oodcert.config.external_weights import imported
from oodcert.config.method_specs import computed_with, trained_components
from oodcert.config.models import Config
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.execution.cost import TRAINING, Job, evidence, set_sizes
from oodcert.execution.throughput import forward_pass
from oodcert.models.components import build_component

PROGRAM = 890_000_000  # bytes of a process that has imported what jobs import, and run a network (torch for CPUs)
ROW = 250  # bytes of a row of evidence in memory, while tables are put together
DRAW = 80  # bytes of a draw in memory, while bounds are computed from an image's or a set's draws
COPIES = 4  # of the weights of a component in training: weights, gradients and what the optimizer keeps
WITH_GRADIENTS = 2  # times what a forward pass keeps, for the gradients and the layers' workspace
PAIR = 2  # images of a trial pass, for a group norm of one value needs more than one


def networks_with_imports(config: Config) -> dict[str, dict[str, Any]]:
    """The config's networks, and those of imported components, as build_component takes them."""
    return config.networks.as_json() | {name: one.network for name, one in imported(config).items()}


def components(config: Config) -> dict[str, nn.Module]:
    """All components of a profile, trained and imported ones, without storage unless they are user-supplied."""
    data, networks = config.data, networks_with_imports(config)
    trained = trained_components(config.methods, config.training, imported(config).keys())
    used = (name for spec in config.methods.values() for name in spec.components)
    modules = {}
    for name in dict.fromkeys([*trained, *used, "denoiser"]):
        supplied = networks.get(name, {}).get("name") == "own"
        with torch.device("cpu" if supplied else "meta"):
            module = build_component(name, networks, data.image_shape, data.num_classes)
        modules[name] = module if supplied else module.to("meta")
    return modules


def weight_bytes(module: nn.Module) -> int:
    """Bytes of a component's tensors in its file, header aside."""
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


def activation_bytes(module: nn.Module, image_shape: Sequence[int]) -> tuple[int, int]:
    """(kept, largest) bytes an image, in float32.

    kept: what a forward pass keeps for its backward pass. largest: the input and output of its largest layer, which is
    what a pass without gradients needs.

    Args:
        module: a component; it may be without storage.
        image_shape: (C, H, W) of the images.

    Returns:
        (kept, largest).
    """
    kept: dict[int, tuple[Any, int]] = {}
    layers = [0]

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept.setdefault(storage._cdata, (storage, tensor.numel() * tensor.element_size()))
        return tensor

    def layer(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        tensors = [one for one in (*inputs, output) if torch.is_tensor(one)]
        layers.append(sum(one.numel() * one.element_size() for one in tensors))

    leaves = [one for one in module.modules() if not any(one.children())]
    hooks = [leaf.register_forward_hook(layer) for leaf in leaves]
    own = {tensor.untyped_storage()._cdata for tensor in (*module.parameters(), *module.buffers())}
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        device = next((tensor.device for tensor in module.state_dict().values()), "cpu")
        forward_pass(module.eval(), torch.zeros(PAIR, *image_shape, dtype=torch.float32, device=device))
    for hook in hooks:
        hook.remove()
    return sum(size for key, (_, size) in kept.items() if key not in own) // PAIR, max(layers) // PAIR


def disk(config: Config, planned: Iterable[Job]) -> dict[str, int]:
    """Bytes by kind: evidence (an estimate), models (exact but for the files' headers), image sets (at most).

    npz files are compressed. Downloads and figures are not counted.

    Args:
        config: with data.ood as it is available.
        planned: its jobs, as of oodcert.execution.cost.jobs.

    Returns:
        Bytes by kind.
    """
    bytes_per_image = prod(config.data.image_shape) + 16  # a label and an id of 8 bytes each
    return {
        "evidence": int(evidence(planned)["bytes"].sum()),
        "models": sum(map(weight_bytes, components(config).values())),
        "image sets": bytes_per_image * sum(set_sizes(config).values()),
    }


def memory(config: Config, planned: Iterable[Job]) -> pd.DataFrame:
    """Estimated peak bytes of each job: rule, job, images, scores, networks, and total, which has PROGRAM in it.

    Methods that are computed together have the bytes of their one job each. images: the sets, as bytes, twice in
    training, where they are laid out anew, and what an attack or an evaluation holds of one set as float32. scores:
    rows and draws. networks: weights, four times in training, and activations of one batch: with gradients twice what
    the pass keeps for them, else the largest layer's. On a GPU the networks are in its memory, and the images of a
    training too; that of its libraries comes on top.

    Args:
        config: with data.ood as it is available.
        planned: its jobs, as of oodcert.execution.cost.jobs.

    Returns:
        A row for each job that runs networks, without that of the denoised examples.
    """
    sizes, shape, modules = set_sizes(config), config.data.image_shape, components(config)
    weights = {name: weight_bytes(module) for name, module in modules.items()}
    activations = {name: activation_bytes(module, shape) for name, module in modules.items()}
    rows = []
    for job in planned:
        if job.passes and job.rule != "denoised_examples":
            measure = _of_training if job.rule == "train" else _of_evaluation
            parts = measure(config, job, sizes, weights, activations)
            rows.append((job.rule, job.job, *parts, PROGRAM + sum(parts)))
    return pd.DataFrame(rows, columns=["rule", "job", "images", "scores", "networks", "total"])


def _of_training(
    config: Config,
    job: Job,
    sizes: Mapping[str, int],
    weights: Mapping[str, int],
    activations: Mapping[str, tuple[int, int]],
) -> tuple[int, int, int]:
    images = 2 * (sizes["id_train"] + sizes["outliers"]) * prod(config.data.image_shape)
    batch = config.training[job.job].batch_size * TRAINING.get(job.job, 1)
    kept = WITH_GRADIENTS * sum(activations[name][0] for name in job.passes)
    held = COPIES * weights[job.job] + sum(weights[name] for name in job.passes)
    return images, 0, held + batch * kept


def _of_evaluation(
    config: Config,
    job: Job,
    sizes: Mapping[str, int],
    weights: Mapping[str, int],
    activations: Mapping[str, tuple[int, int]],
) -> tuple[int, int, int]:
    data, evaluation, values = config.data, config.evaluation, prod(config.data.image_shape)
    methods, test = computed_with(job.rule, job.job, config.methods), data.test_images
    used = dict.fromkeys(name for method in methods for name in config.methods[method].components)
    sides = EVALUATIONS[job.rule].sides
    id_images = sizes["id_test"] if "id" in sides else 0
    ood_images = test * len(data.ood) if "ood" in sides else 0
    floats = {"clean": max(test, data.accuracy_images - test), "attack_linf": 8 * test, "attack_l2": 3 * test}
    images = values * (id_images + ood_images + 4 * floats.get(job.rule, test))
    draws = test * evaluation.attack_l2.n if job.rule == "attack_l2" else 0
    gradients = any(backward for _, backward in job.passes.values())
    layers = [activations[name] for name in used]
    kept = WITH_GRADIENTS * sum(one for one, _ in layers) if gradients else max(largest for _, largest in layers)
    networks = sum(weights[name] for name in used) + evaluation.batch_size * kept
    return images, DRAW * draws + ROW * job.rows * len(methods), networks
