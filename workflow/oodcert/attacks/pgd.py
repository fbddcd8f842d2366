"""Monotone projected gradient ascent with a step size per sample."""

import torch

from oodcert.attacks.steps import per_sample, projection, refuse_nan, unit, value_and_gradient


def monotone_pgd(objective, images, start, epsilon, *, iterations, step=None, momentum=0.9):
    """Ascends objective from start within ‖x' - x‖∞ ≤ epsilon, x' in [0, 1]; never returns less than it started with.

    objective: callable [N, C, H, W] -> [N], differentiable, the same function at every call.
    Each sample has its own step (initially `step`, by default epsilon): a step that fails to improve is undone and
    halved, one that improves grows by a tenth. Gradients are normalised per sample, so results do not depend on the
    batch. A run of few iterations is the beginning of a longer one, so more iterations never give less. Returns
    (images, values [N]). Raises InputError if the objective or its gradient becomes NaN.
    """
    project = projection(images, epsilon, "linf")
    best = project(start)
    value, gradient = value_and_gradient(objective, best)
    sums = [value.sum() + gradient.sum()]
    velocity = torch.zeros_like(best)
    steps = torch.full((len(best), 1, 1, 1), float(epsilon if step is None else step), device=best.device)
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


def decontrast(images, epsilon):
    """Every pixel moved by at most epsilon towards its image's mean (Meinke et al. 2022)."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return images + (mean - images).clamp(-epsilon, epsilon)
