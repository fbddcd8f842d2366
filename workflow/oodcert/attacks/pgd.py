"""Monotone projected gradient ascent with a step size per sample."""

import torch
from torch import Tensor

from oodcert.attacks.steps import Objective, Run, per_sample, projection, refuse_nan, unit, value_and_gradient


def monotone_pgd(
    objective: Objective,
    images: Tensor,
    start: Tensor,
    epsilon: float,
    *,
    iterations: int,
    step: float | None = None,
    momentum: float = 0.9,
) -> Run:
    """Ascends an objective within ‖x' - x‖∞ ≤ epsilon, x' in [0, 1]; never returns less than it started with.

    Each sample has a step of its own: a step that fails to improve is undone and halved, one that improves grows by a
    tenth. Gradients are normalised per sample, so results do not depend on the batch. A run of few iterations is the
    beginning of a longer one, so more iterations never give less.

    Args:
        objective: Differentiable, and the same function at every call.
        images: [N, C, H, W] in [0, 1], the centres of the balls.
        start: [N, C, H, W], where the ascent begins once it is projected into the ball.
        epsilon: Radius of the balls, in the [0, 1] pixel scale.
        iterations: Number of steps.
        step: The first step in the [0, 1] pixel scale; epsilon by default.
        momentum: Weight of the earlier gradients in each step, in [0, 1).

    Returns:
        The images [N, C, H, W] and their values [N].

    Raises:
        InputError: The objective or its gradient becomes NaN.

    Source: Meinke et al. (2022), https://arxiv.org/abs/2106.04260
    """
    project = projection(images, epsilon, "linf")
    best = project(start)
    value, gradient = value_and_gradient(objective, best)
    sums = [value.sum() + gradient.sum()]
    velocity = torch.zeros_like(best)
    size = float(epsilon if step is None else step)
    steps = torch.full((len(best), 1, 1, 1), size, dtype=best.dtype, device=best.device)
    for _ in range(iterations):
        velocity = momentum * velocity + unit(gradient)
        trial = project(best + steps * velocity.sign())
        trial_value, trial_gradient = value_and_gradient(objective, trial)
        sums.append(trial_value.sum() + trial_gradient.sum())
        better = per_sample(trial_value > value)
        best = torch.where(better, trial, best)
        gradient = torch.where(better, trial_gradient, gradient)
        velocity = torch.where(better, velocity, torch.zeros_like(velocity))
        value = torch.maximum(trial_value, value)
        steps = torch.where(better, 1.1 * steps, steps / 2)
    refuse_nan(sums)
    return best, value


def decontrast(images: Tensor, epsilon: float) -> Tensor:
    """Every pixel moved towards its image's mean.

    Args:
        images: [N, C, H, W] in [0, 1].
        epsilon: Largest change of a pixel, in the [0, 1] scale.

    Returns:
        Images [N, C, H, W] in [0, 1].

    Source: Meinke et al. (2022), https://arxiv.org/abs/2106.04260
    """
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return images + (mean - images).clamp(-epsilon, epsilon)
