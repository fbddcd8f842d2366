"""Monotone projected gradient ascent with a step size per sample."""

import torch


def monotone_pgd(objective, images, start, epsilon, *, iterations, norm="linf", step=None, momentum=0.9):
    """Ascends objective from start within ‖x' - x‖ ≤ epsilon, x' in [0, 1]; never returns less than it started with.

    objective: callable [N, C, H, W] -> [N], differentiable, the same function at every call. norm: "linf" or "l2".
    Each sample has its own step (initially `step`, by default epsilon): a step that fails to improve is undone and
    halved, one that improves grows by a tenth. Gradients are normalised per sample, so results do not depend on the
    batch. Returns (images, values [N]).
    """
    best = project(start, images, epsilon, norm)
    value, gradient = _value_and_gradient(objective, best)
    velocity = torch.zeros_like(best)
    steps = torch.full((len(best), 1, 1, 1), float(epsilon if step is None else step), device=best.device)
    for _ in range(iterations):
        velocity = momentum * velocity + _unit(gradient)
        direction = velocity.sign() if norm == "linf" else _unit(velocity)
        trial = project(best + steps * direction, images, epsilon, norm)
        trial_value, trial_gradient = _value_and_gradient(objective, trial)
        better = (trial_value > value).reshape(-1, 1, 1, 1)
        best = torch.where(better, trial, best)
        gradient = torch.where(better, trial_gradient, gradient)
        velocity = torch.where(better, velocity, torch.zeros_like(velocity))
        value = torch.maximum(trial_value, value)
        steps = torch.where(better, 1.1 * steps, steps / 2)
    return best, value


def project(perturbed, images, epsilon, norm):
    """The nearest point to perturbed in the ball around images (l2: the ball first, then the pixel range)."""
    delta = perturbed - images
    if norm == "linf":
        delta = delta.clamp(-epsilon, epsilon)
    else:
        length = delta.flatten(1).norm(dim=1).clamp(min=1e-12).reshape(-1, 1, 1, 1)
        delta = delta * (epsilon / length).clamp(max=1)
    return (images + delta).clamp(0, 1)


def decontrast(images, epsilon):
    """Every pixel moved by at most epsilon towards its image's mean (Meinke et al. 2022)."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return images + (mean - images).clamp(-epsilon, epsilon)


def _value_and_gradient(objective, images):
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        values = objective(images)
        (gradient,) = torch.autograd.grad(values.sum(), images)
    return values.detach(), gradient


def _unit(gradient):
    return gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-12).reshape(-1, 1, 1, 1)
