"""The training loop that every method shares."""

import math

import torch
from tqdm import tqdm

from oodcert.errors import InputError


def fit(module, loss, data, *, optimizer, milestones, decay, epochs, batch_size, seed):
    """Minimises a loss by mini-batches; returns the mean loss of each epoch.

    loss: callable (images, labels, outliers, progress in [0, 1)) -> scalar tensor; outliers is a random batch of the
    ID batch's size. data: (images, labels, outliers) tensors on the device. milestones: fractions of the epochs after
    which the learning rate is multiplied by decay. Batches are drawn from seed alone. Raises InputError as soon as the
    loss is not finite.
    """
    images, labels, outliers = data
    generator = torch.Generator().manual_seed(seed)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [round(m * epochs) for m in milestones], decay)
    curve = []
    module.train()
    for epoch in tqdm(range(epochs), desc="training", unit="epoch"):
        order = torch.randperm(len(images), generator=generator).split(batch_size)
        total = 0.0
        for step, batch in enumerate(order):
            chosen = torch.randint(len(outliers), (len(batch),), generator=generator)
            batch, chosen = batch.to(images.device), chosen.to(images.device)
            value = loss(images[batch], labels[batch], outliers[chosen], (epoch + step / len(order)) / epochs)
            if not math.isfinite(value.item()):
                raise InputError(
                    f"The training loss became {value.item()} in epoch {epoch + 1} of {epochs}: "
                    "lower this part's learning_rate in the config."
                )
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            total += value.item() * len(batch)
        schedule.step()
        curve.append(total / len(images))
    return curve


def fit_classifier(network, loss, data, settings, seed):
    """`fit` with the classifiers' recipe: SGD with Nesterov momentum 0.9, learning rate / 10 at 50, 75 and 90 %."""
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=settings["learning_rate"],
        momentum=0.9,
        nesterov=True,
        weight_decay=settings["weight_decay"],
    )
    sizes = {"epochs": settings["epochs"], "batch_size": settings["batch_size"]}
    return fit(network, loss, data, optimizer=optimizer, milestones=(0.5, 0.75, 0.9), decay=0.1, seed=seed, **sizes)
