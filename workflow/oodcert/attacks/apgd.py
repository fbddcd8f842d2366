"""Auto-PGD (Croce and Hein 2020) as ascent of any per-sample objective."""

import torch
from torch import Tensor

from oodcert.attacks.steps import Objective, Run, direction, per_sample, projection, refuse_nan, value_and_gradient

MOMENTUM = 0.75  # weight of the new step; the rest is that of the last change
RISING = 0.75  # share of a period's steps that must raise the objective for the step size to stay


def apgd(
    objective: Objective, images: Tensor, start: Tensor, epsilon: float, *, iterations: int, norm: str = "linf"
) -> Run:
    """Ascends an objective within ‖x' - x‖ ≤ epsilon, x' in [0, 1], and returns the best points on the way.

    This is Algorithm 1 of Croce and Hein (2020). A sample's step is 2 epsilon at first. At each checkpoint the step is
    halved and the sample put back to its best point in two cases: fewer than three quarters of the period's steps
    raised the objective (condition 1), or neither the step nor the best value has changed since the last checkpoint
    (condition 2). Everything is per sample, so results do not depend on the batch. The objective is a score, so neither
    labels nor predictions decide which samples are attacked.

    The result is never below the start. The checkpoints depend on the number of iterations, so more of them usually
    give a higher value, but are not bound to.

    Args:
        objective: Differentiable, and the same function at every call.
        images: [N, C, H, W] in [0, 1], the centres of the balls.
        start: [N, C, H, W], where the ascent begins once it is projected into the ball.
        epsilon: Radius of the balls, in the [0, 1] pixel scale.
        iterations: Number of steps.
        norm: "linf" or "l2".

    Returns:
        The images [N, C, H, W] and their values [N].

    Raises:
        InputError: The objective or its gradient becomes NaN.

    Source: Croce and Hein (2020), https://arxiv.org/abs/2003.01690
    """
    project = projection(images, epsilon, norm)
    point = before = best = project(start)
    value, gradient = value_and_gradient(objective, point)
    best_value, best_gradient, sums = value, gradient, [value.sum() + gradient.sum()]

    steps = torch.full((len(point), 1, 1, 1), 2.0 * epsilon, dtype=point.dtype, device=point.device)
    rises, last_checkpoint, last_value = torch.zeros_like(value), 0, value
    halved = torch.ones_like(value, dtype=torch.bool)  # at the first checkpoint there is no earlier one to compare with
    periods = set(checkpoints(iterations))
    for iteration in range(1, iterations + 1):
        moved = project(torch.addcmul(point, steps, direction(gradient, norm)))
        if iteration > 1:
            moved = project(torch.lerp(point, moved, MOMENTUM).add_(point - before, alpha=1 - MOMENTUM))
        before, point, previous = point, moved, value

        value, gradient = value_and_gradient(objective, point)
        sums.append(value.sum() + gradient.sum())
        rises += value > previous
        better = per_sample(value > best_value)
        best = torch.where(better, point, best)
        best_gradient = torch.where(better, gradient, best_gradient)
        best_value = torch.maximum(value, best_value)

        if iteration in periods:
            halve = (rises < RISING * (iteration - last_checkpoint)) | (~halved & (best_value == last_value))
            back = per_sample(halve)
            steps = torch.where(back, steps / 2, steps)
            point, gradient = torch.where(back, best, point), torch.where(back, best_gradient, gradient)
            value = torch.where(halve, best_value, value)
            halved, last_value, last_checkpoint = halve, best_value, iteration
            rises = torch.zeros_like(rises)
    refuse_nan(sums)
    return best, best_value


def checkpoints(iterations: int) -> list[int]:
    """The iterations after which step sizes are reviewed.

    The first comes after 22 % of the iterations; the periods then get shorter by 3 % each, and last 6 % at least.

    Args:
        iterations: Number of steps of the whole attack.

    Returns:
        Sorted iterations, counted from 1.

    Source: Croce and Hein (2020), section 4.1, https://arxiv.org/abs/2003.01690
    """
    percent = [0, 22]
    while percent[-1] < 100:
        percent.append(percent[-1] + max(percent[-1] - percent[-2] - 3, 6))
    return sorted({-(-share * iterations // 100) for share in percent[1:-1]})
