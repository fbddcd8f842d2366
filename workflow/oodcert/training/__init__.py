"""Training: one loop, and one file for the loss of each component.

A component's file holds `train(network, components, data, recipe, **run)`, which trains the network in place and
returns its learning curve. It also holds the literals that oodcert.config.components reads: SETTINGS, its settings
beyond those of every component (start_from, epochs, batch_size, learning_rate, schedule, weight_decay, augmentation),
and, where they apply, NEEDS, EXTRA_OUTPUTS and BOUNDED.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from oodcert.config.components import declared_component
from oodcert.config.models import Recipe
from oodcert.data.imageset import ImageSet
from oodcert.errors import InputError
from oodcert.models.components import build_component
from oodcert.runtime.keyed_noise import derive_seed
from oodcert.runtime.torch_setup import in_float32
from oodcert.training.loop import Data


@in_float32()
def train_component(
    component: str,
    components: Mapping[str, nn.Module],
    id_set: ImageSet,
    outliers: ImageSet,
    *,
    networks: Mapping[str, Mapping[str, Any]],
    num_classes: int,
    recipe: Recipe,
    seed: int,
    device: str = "cpu",
    checkpoint: Path | None = None,
) -> tuple[nn.Module, pd.DataFrame]:
    """Trains one component.

    Args:
        component: Its name.
        components: Name -> trained module, with those that this component needs.
        id_set: Images and labels to train on.
        outliers: Images that the methods with outlier exposure use; the others leave them.
        networks: The config's entry of that name.
        num_classes: K.
        recipe: The component's entry in the config's `training`.
        seed: Of the run.
        device: "cpu" or "cuda".
        checkpoint: Path from which an interrupted training resumes. The caller removes it once the weights are saved.

    Returns:
        The module in evaluation mode, and the learning curve as `oodcert.training.loop.fit` returns it.

    Raises:
        InputError: A component that this one needs is missing, or the loss is not finite.
    """
    start = recipe.start_from
    missing = {*declared_component(component).needs, *([start] if start else [])} - components.keys()
    if missing:
        raise InputError(
            f"Training {component} needs the trained component {', '.join(missing)}: train it first and pass it."
        )
    images, labels, others = (torch.from_numpy(a) for a in (id_set.images, id_set.labels, outliers.images))
    images, others = (array.permute(0, 3, 1, 2).contiguous() for array in (images, others))
    data = Data(images.to(device), labels.to(device), others.to(device))
    torch.manual_seed(derive_seed(seed, "weights", component))
    module = build_component(component, networks, id_set.shape, num_classes).to(device)
    if start:
        start_from(module, components[start])
    trainer = import_module(f"oodcert.training.{component}")
    curve = trainer.train(
        module, components, data, recipe, seed=derive_seed(seed, "training", component), checkpoint=checkpoint
    )
    return module.eval(), curve


def start_from(module: nn.Module, trained: nn.Module) -> None:
    """Copies a trained network's tensors into another one of the same architecture, for training it further.

    Where the new network has more outputs, the first ones are taken over and the others keep their fresh weights.

    Args:
        module: The network to train; it is changed in place.
        trained: The network to start from.

    Raises:
        InputError: The networks differ otherwise.
    """
    theirs, ours = trained.state_dict(), module.state_dict()
    if [*theirs] != [*ours] or any(theirs[name].shape[1:] != ours[name].shape[1:] for name in ours):
        raise InputError("A component can only start from one with the same network: correct start_from, or networks.")
    with torch.no_grad():
        for name, tensor in ours.items():
            if tensor.ndim and len(tensor) < len(theirs[name]):
                raise InputError(f"A component with fewer outputs can't start from one with {len(theirs[name])}.")
            (tensor[: len(theirs[name])] if tensor.ndim else tensor).copy_(theirs[name])
