"""The training loop that every method shares."""

import math
import time
from collections import defaultdict
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from oodcert.errors import InputError
from oodcert.runtime.keyed_noise import derive_seed
from oodcert.training.augment import augment
from oodcert.training.resume import fingerprint, load_state, save_state

CHECKPOINT_EVERY = 60  # seconds between two checkpoints, at least


@dataclass(frozen=True)
class Data:
    """What is trained on, in memory on the device: images and outliers uint8 [N or M, C, H, W], labels int64 [N].

    outliers may be empty, [0, C, H, W]: then those of every batch are.
    """

    images: Tensor
    labels: Tensor
    outliers: Tensor


@dataclass(frozen=True)
class Batch:
    """What a loss sees: images and as many outliers, float32 [B, C, H, W] in [0, 1], augmented alike; labels int64 [B].

    progress: share of the epochs done, in [0, 1). generator: on the CPU, for the loss's own random numbers, seeded
    afresh for every batch.
    """

    images: Tensor
    labels: Tensor
    outliers: Tensor
    progress: float
    generator: torch.Generator


def fit(module, loss, data, settings, *, optimizer, milestones, decay, seed, checkpoint=None, autocast=True, mine=None):
    """Minimises a loss by mini-batches; returns the learning curve, a DataFrame of epoch (from 1), term and value.

    loss: callable Batch -> dict of named scalar tensors, whose sum is minimised. If it is an nn.Module, its state is
    part of the checkpoint. settings: epochs, batch_size, schedule and augmentation (see oodcert.training.augment); what
    else there is counts for the fingerprint alone. The learning rates are multiplied by decay after the shares
    `milestones` of the epochs where schedule is "steps"; where it is "cosine", they go down half a cosine, epoch by
    epoch, which would reach 0 after the last one. mine: callable (module, all outliers, CPU generator) -> int64 indices
    of the outliers of the coming epoch, called at its start with the module in evaluation mode and without gradients;
    without it all are used. An epoch passes over the outliers in random order, anew when they run out. The curve has
    the mean of each term over those of an epoch's images that had it, and the terms "total" and "learning_rate" (of
    the optimizer's first group).

    All randomness derives from (seed, epoch, step), torch's global generators included, which are left as they were.
    So a training that was interrupted resumes without any generator's state, to the same bits: checkpoint, a path, is
    written after an epoch, at most every CHECKPOINT_EVERY seconds, and read at the start if its fingerprint (data,
    settings, seed, initial states, torch's version) fits; otherwise it is ignored with a line on stderr. It is left
    behind at the end: the caller removes it once the trained weights are safe, so that no moment loses both.

    On a GPU the loss is computed in bfloat16 where torch's autocast finds it safe. autocast=False keeps float32, as
    training on interval bounds needs: bfloat16 steps by 0.004 below 1, nearly half of the usual epsilon of 0.01.
    Raises InputError, before the weights are touched, as soon as a term is not finite.
    """
    device, epochs = data.images.device, settings["epochs"]
    holders = {"module": module, "optimizer": optimizer} | ({"loss": loss} if isinstance(loss, nn.Module) else {})
    rates = [group["lr"] for group in optimizer.param_groups]
    mark, start, rows = None, 0, []
    if checkpoint is not None:
        mark = _fingerprint(holders, data, [settings, milestones, decay, seed, autocast, device.type])
        start, rows = load_state(checkpoint, mark, holders)
    saved = time.monotonic()
    progress = tqdm(range(start, epochs), f"training {type(module).__name__}", epochs, initial=start, unit="epoch")
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for epoch in progress:
            factor = decay ** sum(epoch >= round(milestone * epochs) for milestone in milestones)
            if settings["schedule"] == "cosine":
                factor = (1 + math.cos(math.pi * epoch / epochs)) / 2
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            sums, images = defaultdict(float), defaultdict(int)
            for batch in _batches(module, data, settings, seed, epoch, mine):
                for name, value in _step(loss, batch, optimizer, autocast, f"epoch {epoch + 1} of {epochs}").items():
                    sums[name] += value * len(batch.images)
                    images[name] += len(batch.images)
            means = {name: total / images[name] for name, total in sums.items()}
            means["learning_rate"] = optimizer.param_groups[0]["lr"]
            rows += [(epoch + 1, name, value) for name, value in means.items()]
            progress.set_postfix(loss=f"{means['total']:.4g}", refresh=False)
            if checkpoint is not None and epoch + 1 < epochs and time.monotonic() - saved >= CHECKPOINT_EVERY:
                save_state(checkpoint, mark, epoch + 1, rows, holders)
                saved = time.monotonic()
    return pd.DataFrame(rows, columns=["epoch", "term", "value"])


def fit_classifier(network, loss, data, settings, **run):
    """`fit` with the classifiers' recipe: SGD with Nesterov momentum 0.9; as steps, learning rate / 10 at 50, 75, 90 %.

    Nesterov's momentum serves all classifiers alike, plain ones too. Where the loss is an nn.Module, its own parameters
    are trained as well, without weight decay. run: seed, and the further options of `fit`.
    """
    trained = set(network.parameters())
    own = [weight for weight in loss.parameters() if weight not in trained] if isinstance(loss, nn.Module) else []
    groups = [{"params": list(network.parameters()), "weight_decay": settings["weight_decay"]}, {"params": own}]
    optimizer = torch.optim.SGD(groups, lr=settings["learning_rate"], momentum=0.9, nesterov=True)
    return fit(network, loss, data, settings, optimizer=optimizer, milestones=(0.5, 0.75, 0.9), decay=0.1, **run)


def _step(loss, batch, optimizer, autocast, when):
    """One step of the optimizer: dict from term to its value before the step."""
    device = batch.images.device.type
    with torch.autocast(device, torch.bfloat16, enabled=autocast and device == "cuda"):
        terms = loss(batch)
        terms = {**terms, "total": sum(terms.values())}
    values = torch.stack([term.detach().double() for term in terms.values()]).tolist()
    for name, value in zip(terms, values, strict=True):
        if not math.isfinite(value):
            raise InputError(
                f"The loss term {name!r} became {value} in {when}: lower this part's learning_rate in the config."
            )
    optimizer.zero_grad()
    terms["total"].backward()
    optimizer.step()
    return dict(zip(terms, values, strict=True))


def ramp(progress, share):
    """How far a setting has risen, in [0, 1]: linearly over this share of the training, at once for 0."""
    return min(1.0, progress / share) if share > 0 else 1.0


def _batches(module, data, settings, seed, epoch, mine):
    """The epoch's Batches, with the module in training mode and torch's global generators seeded."""
    device, n = data.images.device, len(data.images)
    torch.manual_seed(derive_seed(seed, "global", epoch))
    pool = torch.arange(len(data.outliers))
    if mine is not None:
        module.eval()
        with torch.no_grad():
            pool = mine(module, data.outliers, _generator(seed, "mining", epoch)).cpu()
    module.train()
    generator = _generator(seed, "order", epoch)
    order = torch.randperm(n, generator=generator)
    rounds = -(-n // len(pool)) if len(pool) else 0
    passes = [pool[torch.randperm(len(pool), generator=generator)] for _ in range(rounds)]
    outliers = torch.cat([pool[:0], *passes])[:n]
    starts = range(0, n, settings["batch_size"])
    for step, first in enumerate(starts):
        inside, outside = (indices[first : first + starts.step].to(device) for indices in (order, outliers))
        together = torch.cat([data.images[inside], data.outliers[outside]])
        together = augment(together, settings["augmentation"], _generator(seed, "augmentation", epoch, step))
        images, others = together.float().div(255).split([len(inside), len(outside)])
        done = (epoch + step / len(starts)) / settings["epochs"]
        yield Batch(images, data.labels[inside], others, done, _generator(seed, "loss", epoch, step))


def _generator(seed, *names):
    return torch.Generator().manual_seed(derive_seed(seed, *names))


def _fingerprint(holders, data, settings):
    states = {name: holder.state_dict() for name, holder in holders.items() if isinstance(holder, nn.Module)}
    tensors = {f"{name}.{key}": tensor for name, state in states.items() for key, tensor in state.items()}
    optimizer = holders["optimizer"]
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    return fingerprint([settings, type(optimizer).__name__, groups], vars(data) | tensors)
