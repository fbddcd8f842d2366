"""Training: one loop, and one file for the loss of each trained part.

A part's file holds `train(network, parts, data, settings, **run)`, which trains the network in place and returns its
learning curve, and the literals that oodcert.config.components reads: SETTINGS, its settings beyond those of every part
(start_from, epochs, batch_size, learning_rate, schedule, weight_decay, augmentation), and, where they apply, NEEDS,
EXTRA_OUTPUTS and BOUNDED.
"""

from importlib import import_module

import torch

from oodcert.config.components import declared_component
from oodcert.errors import InputError
from oodcert.models.components import build_component
from oodcert.runtime.keyed_noise import derive_seed
from oodcert.training.loop import Data


def train_component(
    part, parts, id_set, outliers, *, networks, num_classes, settings, seed, device="cpu", checkpoint=None
):
    """Trains one part: (module in evaluation mode, learning curve as `oodcert.training.loop.fit` returns it).

    parts: name -> trained module, with those that this part needs. id_set, outliers: ImageSets; outliers are used by
    the methods with outlier exposure alone. networks, settings: the config's entries. checkpoint: path from which an
    interrupted training resumes, and which the caller removes once the weights are saved.
    Raises InputError where a needed part is missing, or where the loss is not finite.
    """
    start = settings["start_from"]
    missing = {*declared_component(part).needs, *([start] if start else [])} - parts.keys()
    if missing:
        raise InputError(f"Training {part} needs the trained part {', '.join(missing)}: train it first and pass it.")
    images, labels, others = (torch.from_numpy(a) for a in (id_set.images, id_set.labels, outliers.images))
    images, others = (array.permute(0, 3, 1, 2).contiguous() for array in (images, others))
    data = Data(images.to(device), labels.to(device), others.to(device))
    torch.manual_seed(derive_seed(seed, "weights", part))
    module = build_component(part, networks, id_set.shape, num_classes).to(device)
    if start:
        start_from(module, parts[start])
    trainer = import_module(f"oodcert.training.{part}")
    curve = trainer.train(
        module, parts, data, settings, seed=derive_seed(seed, "training", part), checkpoint=checkpoint
    )
    return module.eval(), curve


def start_from(module, trained):
    """Copies a trained network's tensors into another one of the same architecture, for training it further.

    Where this one has more outputs, the first ones are taken over and the others keep their fresh weights.
    Raises InputError where the networks differ otherwise.
    """
    theirs, ours = trained.state_dict(), module.state_dict()
    if [*theirs] != [*ours] or any(theirs[name].shape[1:] != ours[name].shape[1:] for name in ours):
        raise InputError("A part can only start from one with the same network: correct start_from, or networks.")
    with torch.no_grad():
        for name, tensor in ours.items():
            if tensor.ndim and len(tensor) < len(theirs[name]):
                raise InputError(f"A part with fewer outputs can't start from one with {len(theirs[name])}.")
            (tensor[: len(theirs[name])] if tensor.ndim else tensor).copy_(theirs[name])
