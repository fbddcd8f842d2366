"""Training: one loop, and one file for the loss of each trained part."""

from importlib import import_module

import torch

from oodcert.checkpoints import build_part
from oodcert.errors import InputError
from oodcert.methods import PARTS
from oodcert.rng import derive


def train_part(part, parts, id_set, outliers, *, networks, num_classes, settings, seed, device="cpu"):
    """Trains one part: (module in evaluation mode, mean loss of each epoch).

    parts: already trained parts that this one needs (see oodcert.methods.PARTS). id_set, outliers: ImageSets;
    outliers are used by the methods with outlier exposure alone. networks, settings: the config's entries.
    """
    if not set(PARTS[part]) <= parts.keys():
        raise InputError(
            f"Training {part} needs the trained part {', '.join(PARTS[part])}: train it first and pass it."
        )
    shape = (id_set.images.shape[3], *id_set.images.shape[1:3])
    torch.manual_seed(derive(seed, "weights", part))
    module = build_part(part, networks, shape, num_classes).to(device)
    images = torch.from_numpy(id_set.floats()).to(device)
    labels = torch.from_numpy(id_set.labels).to(device)
    outside = torch.from_numpy(outliers.floats()).to(device)
    trainer = import_module(f"oodcert.training.{part}")
    curve = trainer.train(module, parts, (images, labels, outside), settings, derive(seed, "batches", part))
    return module.eval(), curve
