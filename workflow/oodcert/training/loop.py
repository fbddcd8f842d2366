"""The training loop that every method shares."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from oodcert.config.models import Recipe
from oodcert.errors import InputError
from oodcert.runtime.keyed_noise import derive_seed
from oodcert.runtime.memory import within_memory
from oodcert.runtime.transfer import made_ahead, to_host
from oodcert.training.augment import augment
from oodcert.training.resume import Holders, Row, fingerprint, load_state, save_state

CHECKPOINT_EVERY = 60  # seconds between two checkpoints, at least


@dataclass(frozen=True)
class Data:
    """What is trained on, in memory on the device.

    Attributes:
        images: ID images, uint8 [N, C, H, W].
        labels: Of the ID images, int64 [N].
        outliers: uint8 [M, C, H, W]. Without any, [0, C, H, W], no batch has outliers.
    """

    images: Tensor
    labels: Tensor
    outliers: Tensor


@dataclass(frozen=True)
class Batch:
    """What a loss sees.

    Attributes:
        images: ID images, float32 [B, C, H, W] in [0, 1], augmented.
        labels: Of the ID images, int64 [B].
        outliers: As many outliers, float32 [B, C, H, W] in [0, 1], augmented alike.
        progress: Share of the epochs done, in [0, 1).
        generator: On the CPU, for the random numbers of the loss, seeded afresh for every batch.
    """

    images: Tensor
    labels: Tensor
    outliers: Tensor
    progress: float
    generator: torch.Generator


Loss = Callable[[Batch], dict[str, Tensor]]  # named scalars, whose sum is minimised
Mine = Callable[[nn.Module, Tensor, torch.Generator], Tensor]  # module, outliers -> indices of the epoch's outliers


def fit(
    module: nn.Module,
    loss: Loss,
    data: Data,
    recipe: Recipe,
    *,
    optimizer: Optimizer,
    milestones: Sequence[float],
    decay: float,
    seed: int,
    checkpoint: Path | None = None,
    autocast: bool = True,
    mine: Mine | None = None,
) -> pd.DataFrame:
    """Minimises a loss by mini-batches.

    The learning rates follow `schedule`. As "steps" they are multiplied by `decay` after the shares `milestones` of the
    epochs. As "cosine" they go down half a cosine, epoch by epoch, which would reach 0 after the last one.

    An epoch passes over the outliers in random order, anew when they run out. With `mine` it uses those that are mined
    at its start, with the module in evaluation mode and without gradients; otherwise it uses all.

    All randomness derives from (seed, epoch, step), torch's global generators included, which are left as they were. So
    an interrupted training resumes without any generator's state, to the same bits. `checkpoint` is written after an
    epoch, at most every CHECKPOINT_EVERY seconds. It is read at the start if its fingerprint fits (data, settings,
    seed, initial states, torch's version); otherwise it is ignored with a line on stderr. It stays at the end: the
    caller removes it once the trained weights are safe, so that no moment loses both.

    On a GPU the loss is computed in bfloat16 where torch's autocast takes that to be safe.

    Args:
        module: What is trained, in place.
        loss: Named scalars of a batch, whose sum is minimised. If it is an nn.Module, its state belongs to the
            checkpoint.
        data: Images, labels and outliers.
        recipe: epochs, batch_size, schedule and augmentation (see oodcert.training.augment). Further ones count for
            the fingerprint alone.
        optimizer: Of the module's parameters, with the learning rates of the first epoch.
        milestones: Shares of the epochs, in [0, 1].
        decay: Factor of the learning rate at each milestone.
        seed: Of the training.
        checkpoint: Path of the state of an unfinished training; none is kept by default.
        autocast: Whether bfloat16 may be used. Training on interval bounds needs False: bfloat16 steps by 0.004 below
            1, nearly half of the usual epsilon of 0.01.
        mine: Function of the module, all outliers and a CPU generator to int64 indices of the coming epoch's outliers.

    Returns:
        The learning curve, with columns epoch (from 1), term and value. A term's value is its mean over those of the
        epoch's images that had it. Further terms are "total" and "learning_rate", that of the optimizer's first group.

    Raises:
        InputError: A term is not finite. The weights are as they were before that step.
    """
    epochs, device = recipe.epochs, data.images.device
    scheduler = LambdaLR(optimizer, _rate_factor(recipe.schedule, epochs, milestones, decay))
    holders: Holders = {"module": module, "optimizer": optimizer, "scheduler": scheduler}
    if isinstance(loss, nn.Module):
        holders["loss"] = loss
    saver = _Saver(checkpoint, holders)
    start, rows = saver.resume(data, [recipe.as_json(), milestones, decay, seed, autocast, device.type])
    progress = tqdm(range(start, epochs), f"training {type(module).__name__}", epochs, initial=start, unit="epoch")
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for epoch in progress:
            batches = made_ahead(_batches(module, data, recipe, seed, epoch, mine), device, _tensors)
            means = _train_epoch(loss, batches, optimizer, autocast, f"epoch {epoch + 1} of {epochs}")
            means["learning_rate"] = optimizer.param_groups[0]["lr"]
            rows += [(epoch + 1, name, value) for name, value in means.items()]
            progress.set_postfix(loss=f"{means['total']:.4g}", refresh=False)
            scheduler.step()
            if epoch + 1 < epochs:
                saver.save(epoch + 1, rows)
    return pd.DataFrame(rows, columns=["epoch", "term", "value"])


def fit_classifier(network: nn.Module, loss: Loss, data: Data, recipe: Recipe, **run: Any) -> pd.DataFrame:
    """`fit` with the recipe of all classifiers: SGD with Nesterov momentum 0.9.

    As "steps" the learning rate is divided by 10 at 50, 75 and 90 % of the epochs. Where the loss is an nn.Module, its
    parameters beyond the network's are trained as well, without weight decay.

    Args:
        network: What is trained, in place.
        loss: As for `fit`.
        data: As for `fit`.
        recipe: Those of `fit`, learning_rate and weight_decay.
        run: seed, and the further options of `fit`.

    Returns:
        The learning curve of `fit`.

    Raises:
        InputError: A term is not finite.
    """
    trained = set(network.parameters())
    further = [weight for weight in loss.parameters() if weight not in trained] if isinstance(loss, nn.Module) else []
    groups: list[dict[str, Any]] = [{"params": list(network.parameters()), "weight_decay": recipe.weight_decay}]
    groups.append({"params": further})
    optimizer = torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)
    return fit(network, loss, data, recipe, optimizer=optimizer, milestones=(0.5, 0.75, 0.9), decay=0.1, **run)


def ramp(progress: float, share: float) -> float:
    """How far a setting has risen: linearly over the first epochs.

    Args:
        progress: Share of the epochs done, in [0, 1].
        share: Share of the epochs over which the setting rises; 0 means at once.

    Returns:
        A factor in [0, 1].
    """
    return min(1.0, progress / share) if share > 0 else 1.0


def _rate_factor(schedule: str, epochs: int, milestones: Sequence[float], decay: float) -> Callable[[int], float]:
    """The factor of the learning rates in an epoch, counted from 0."""
    if schedule == "cosine":
        return lambda epoch: (1 + math.cos(math.pi * epoch / epochs)) / 2
    return lambda epoch: decay ** sum(epoch >= round(milestone * epochs) for milestone in milestones)


class _Saver:
    """Keeps the state of a training on disk; without a path it does nothing."""

    def __init__(self, path: Path | None, holders: Holders) -> None:
        self.path, self.holders = path, holders
        self.fingerprint, self.saved = "", time.monotonic()

    def resume(self, data: Data, settings: list[Any]) -> tuple[int, list[Row]]:
        """Puts a saved state of the same training into the holders: epochs done, and the rows of the curve."""
        if self.path is None:
            return 0, []
        self.fingerprint = _fingerprint(self.holders, data, settings)
        return load_state(self.path, self.fingerprint, self.holders)

    def save(self, epoch: int, rows: list[Row]) -> None:
        """Saves the state after `epoch` epochs, unless the last time was less than CHECKPOINT_EVERY seconds ago."""
        if self.path is not None and time.monotonic() - self.saved >= CHECKPOINT_EVERY:
            save_state(self.path, self.fingerprint, epoch, rows, self.holders)
            self.saved = time.monotonic()


def _fingerprint(holders: Holders, data: Data, settings: list[Any]) -> str:
    """A hash of everything that a training depends on."""
    states = {name: holder.state_dict() for name, holder in holders.items() if isinstance(holder, nn.Module)}
    tensors = {f"{name}.{key}": tensor for name, state in states.items() for key, tensor in state.items()}
    optimizer = holders["optimizer"]
    assert isinstance(optimizer, Optimizer)
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    return fingerprint([settings, type(optimizer).__name__, groups], vars(data) | tensors)


def _batches(
    module: nn.Module, data: Data, recipe: Recipe, seed: int, epoch: int, mine: Mine | None
) -> Iterator[Batch]:
    """The epoch's batches, with the module in training mode and torch's global generators seeded."""
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
    outlier_order = torch.cat([pool[:0], *passes])[:n]
    starts = range(0, n, recipe.batch_size)
    for step, first in enumerate(starts):
        chosen, outliers = (indices[first : first + starts.step].to(device) for indices in (order, outlier_order))
        together = torch.cat([data.images[chosen], data.outliers[outliers]])
        together = augment(together, recipe.augmentation, _generator(seed, "augmentation", epoch, step))
        images, others = together.float().div(255).split([len(chosen), len(outliers)])
        progress = (epoch + step / len(starts)) / recipe.epochs
        yield Batch(images, data.labels[chosen], others, progress, _generator(seed, "loss", epoch, step))


def _tensors(batch: Batch) -> list[Tensor]:
    return [batch.images, batch.labels, batch.outliers]


def _generator(seed: int, *names: object) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, *names))


def _train_epoch(
    loss: Loss, batches: Iterator[Batch], optimizer: Optimizer, autocast: bool, when: str
) -> dict[str, float]:
    """The mean of each term over those of the epoch's images that had it.

    A step's values are looked at once its gradients are asked for and the next batch is made: a GPU computes meanwhile.
    """
    sums: dict[str, float] = defaultdict(float)
    images: dict[str, int] = defaultdict(int)
    batch = next(batches, None)
    while batch is not None:
        count, values = len(batch.images), _fitting_gradients(loss, batch, optimizer, autocast)
        batch = next(batches, None)
        for name, value in values(when).items():
            sums[name] += value * count
            images[name] += count
        optimizer.step()
    return {name: total / images[name] for name, total in sums.items()}


def _fitting_gradients(
    loss: Loss, batch: Batch, optimizer: Optimizer, autocast: bool
) -> Callable[[str], dict[str, float]]:
    """The same as _gradients; where memory does not suffice, an InputError with a batch_size for which it does."""

    def of_first(count: int) -> Callable[[str], dict[str, float]]:
        parts = {name: getattr(batch, name)[:count] for name in ("images", "labels", "outliers")}
        return _gradients(loss, replace(batch, **parts), optimizer, autocast)

    whole = partial(_gradients, loss, batch, optimizer, autocast)
    return within_memory(whole, len(batch.images), of_first, "this component's batch_size in the config")


def _gradients(loss: Loss, batch: Batch, optimizer: Optimizer, autocast: bool) -> Callable[[str], dict[str, float]]:
    """Computes the gradients of a batch; returns the function that gives the terms' values, which must be finite."""
    device = batch.images.device.type
    with torch.autocast(device, torch.bfloat16, enabled=autocast and device == "cuda"):
        terms = loss(batch)
        total = sum(terms.values())
    assert isinstance(total, Tensor)
    terms = {**terms, "total": total}
    copied, wait = to_host(torch.stack([term.detach().double() for term in terms.values()]))
    optimizer.zero_grad()
    total.backward()

    def values(when: str) -> dict[str, float]:
        wait()
        found = dict(zip(terms, copied.tolist(), strict=True))
        for name, value in found.items():
            if not math.isfinite(value):
                raise InputError(
                    f"The loss term {name!r} became {value} in {when}: lower this component's learning_rate in the "
                    "config."
                )
        return found

    return values
