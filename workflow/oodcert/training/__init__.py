"""Training: one loop, and one file for the loss of each trained part.

A part's file holds `train(network, parts, data, settings, **run)`, which trains the network in place and returns its
learning curve, and the literals that oodcert.parts reads: SETTINGS, its settings beyond those of every part (epochs,
batch_size, learning_rate, weight_decay, augmentation), and, where they apply, NEEDS, EXTRA_OUTPUTS and BOUNDED.
"""

from importlib import import_module

import torch

from oodcert.checkpoints import build_part
from oodcert.errors import InputError
from oodcert.parts import declared
from oodcert.rng import derive
from oodcert.training.loop import Data


def train_part(part, parts, id_set, outliers, *, networks, num_classes, settings, seed, device="cpu", checkpoint=None):
    """Trains one part: (module in evaluation mode, learning curve as `oodcert.training.loop.fit` returns it).

    parts: name -> trained module, with those that this part needs. id_set, outliers: ImageSets; outliers are used by
    the methods with outlier exposure alone. networks, settings: the config's entries. checkpoint: path from which an
    interrupted training resumes, and which the caller removes once the weights are saved.
    Raises InputError where a needed part is missing, or where the loss is not finite.
    """
    missing = set(declared(part).needs) - parts.keys()
    if missing:
        raise InputError(f"Training {part} needs the trained part {', '.join(missing)}: train it first and pass it.")
    images, labels, others = (torch.from_numpy(a) for a in (id_set.images, id_set.labels, outliers.images))
    images, others = (array.permute(0, 3, 1, 2).contiguous() for array in (images, others))
    data = Data(images.to(device), labels.to(device), others.to(device))
    torch.manual_seed(derive(seed, "weights", part))
    module = build_part(part, networks, id_set.shape, num_classes).to(device)
    trainer = import_module(f"oodcert.training.{part}")
    curve = trainer.train(module, parts, data, settings, seed=derive(seed, "training", part), checkpoint=checkpoint)
    return module.eval(), curve
