"""The l-infinity attack of the authors' code on OOD confidence (D14, D18, D19, D22)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from oodcert.attacks.apgd import apgd as auto_pgd
from oodcert.attacks.objective import mean_objective
from oodcert.attacks.ood import STEP, apgd_starts, pgd_starts
from oodcert.attacks.pgd import monotone_pgd
from oodcert.attacks.steps import per_sample, projection, refuse_nan, strongest, value_and_gradient
from oodcert.authors_code.flags import NOISE_NAME
from oodcert.authors_code.networks import detector
from oodcert.models.checks import checked_logits
from oodcert.models.detector import Detector
from oodcert.models.wrappers import noisy_modules, replayed_logits
from oodcert.runtime.keyed_noise import keyed_batch, keyed_noise

MOMENTUM = 0.9
Objective = Callable[[Tensor], Tensor]


def authors_code_ensemble(
    network: nn.Module,
    score: str,
    images: Tensor,
    ids: NDArray[np.integer],
    name: str,
    *,
    epsilon: float,
    protocol: Set[str],
    apgd: Mapping[str, int],
    pgd: Mapping[str, int],
    draws: int,
    seed: int,
) -> dict[str, Tensor]:
    """Images in ‖x' - x‖∞ ≤ epsilon, in [0, 1], by every attack of the ensemble. There is no Square.

    In the authors' code "apgd" leaves every image as it is, since it attacks those whose label is predicted (D14).
    Every gradient is of one fresh noise draw (D18). The objective of an energy score is the softmax (D22).

    Args:
        network: the method's network, to be put in evaluation mode.
        score: the method's score.
        images: one batch [N, C, H, W] in [0, 1].
        ids: [N], ids of the images, which key their noise.
        name: of the image set, which keys the noise too.
        epsilon: radius of the ball, in the pixel scale [0, 1].
        protocol: the flags that are as the authors' code has them.
        apgd: `iterations` and `restarts` of Auto-PGD, as of oodcert.attacks.ood.linf_ensemble.
        pgd: `iterations` and `restarts` of monotone PGD, as there.
        draws: noise draws of each gradient of a randomised network, without D18.
        seed: seed of the run.

    Returns:
        Name of the attack -> images [N, C, H, W].

    Raises:
        InputError: if the score or its gradient becomes NaN.
    """
    target = detector(network, "msp" if score == "energy" and "D22" in protocol else score, protocol)
    randomised, shape, device = bool(noisy_modules(network)), images.shape[1:], images.device

    def drawn(draw: Callable[..., NDArray[np.float32]], purpose: str, count: int) -> Tensor:
        noise = keyed_batch(draw, seed, f"{NOISE_NAME}/{purpose}/{name}", ids, count, shape)
        return torch.from_numpy(noise).to(device)

    def objective(purpose: str, iterations: int) -> Objective:
        """Points to values: of the next draw at each call (D18), or of the mean over the same draws."""
        if not randomised:
            return lambda points: _value(target, checked_logits(network, points.clone())[None], protocol)
        if "D18" not in protocol:
            fixed = drawn(keyed_noise, "eot", draws)
            return lambda points: _value(target, replayed_logits(network, points, fixed), protocol)
        fresh = iter(drawn(keyed_noise, purpose, iterations + 1))
        return lambda points: _value(target, replayed_logits(network, points, next(fresh)[None]), protocol)

    def by_apgd(purpose: str, start: Tensor) -> tuple[Tensor, Tensor]:
        run = objective(purpose, apgd["iterations"])
        return auto_pgd(run, images, start, epsilon, iterations=apgd["iterations"])

    def by_pgd(purpose: str, start: Tensor) -> tuple[Tensor, Tensor]:
        ascend = mean_gradient_pgd if "D19" in protocol else monotone_pgd
        run = objective(purpose, pgd["iterations"])
        return ascend(run, images, start, epsilon, iterations=pgd["iterations"], step=STEP)

    def best_of(
        ascent: Callable[[str, Tensor], tuple[Tensor, Tensor]], attack: str, starts: Sequence[Tensor]
    ) -> Tensor:
        runs = [ascent(f"{attack}/{restart}/draws", start) for restart, start in enumerate(starts)]
        return strongest(runs)[0]

    adversarial = {"apgd": images}
    if "D14" not in protocol:
        adversarial["apgd"] = best_of(by_apgd, "apgd", apgd_starts(images, epsilon, drawn, apgd["restarts"]))
    for attack, starts in pgd_starts(images, epsilon, drawn, pgd["restarts"]).items():
        adversarial[attack] = best_of(by_pgd, attack, starts)
    return adversarial


def _value(target: Detector, logits: Tensor, protocol: Set[str]) -> Tensor:
    """Values [N] of logits [m, N, K]: the mean score (D19), or what orders images alike and stays steep."""
    if "D19" in protocol:
        return target.score_of(logits.flatten(0, 1)).unflatten(0, logits.shape[:2]).mean(0)
    return mean_objective(target, logits)


def mean_gradient_pgd(
    objective: Objective, images: Tensor, start: Tensor, epsilon: float, *, iterations: int, step: float
) -> tuple[Tensor, Tensor]:
    """The authors' monotone PGD (D19): momentum of the gradient of the batch's mean value, not normalised.

    So the more images in a batch, and the flatter the score, the shorter the steps. A step that lowers an image's value
    is undone. Yet what is returned is the last trial, undone or not.

    Args:
        objective: points [N, C, H, W] to values [N], differentiable.
        images: [N, C, H, W], centres of the l-infinity ball.
        start: [N, C, H, W], where it begins.
        epsilon: radius of the ball, in the pixel scale [0, 1].
        iterations: steps.
        step: size of the first step, as a factor of the momentum.

    Returns:
        (images, highest values [N]).

    Raises:
        InputError: if the objective or its gradient becomes NaN.
    """
    project = projection(images, epsilon, "linf")
    trial = best = project(start)
    velocity = kept = torch.zeros_like(best)
    steps = torch.full((len(best), 1, 1, 1), float(step), dtype=best.dtype, device=best.device)
    highest, sums = torch.full((len(best),), -torch.inf, dtype=best.dtype, device=best.device), []
    for iteration in range(iterations + 1):
        value, gradient = value_and_gradient(objective, trial)
        sums.append(value.sum() + gradient.sum())
        worse = per_sample(value < highest)
        best = torch.where(worse, best, trial)
        kept = velocity = torch.where(worse, kept, velocity)
        highest = torch.maximum(highest.to(value.dtype), value)
        if iteration > 0:
            steps = torch.where(worse, steps / 2, 1.1 * steps)
        if iteration < iterations:
            velocity = MOMENTUM * velocity + gradient / len(images)
            trial = project(best + steps * velocity)
    refuse_nan(sums)
    return trial, highest
