"""What the attacks share: values with gradients, the ball, directions, and the refusal of NaN."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from oodcert.errors import InputError

Objective = Callable[[Tensor], Tensor]  # points [N, C, H, W] -> values [N], of each sample alone
Run = tuple[Tensor, Tensor]  # what an attack returns: images [N, C, H, W], values [N]


def value_and_gradient(objective: Objective, points: Tensor) -> tuple[Tensor, Tensor]:
    """The values of an objective and their gradients.

    Args:
        objective: Differentiable; a sample's value depends on that sample alone.
        points: [N, C, H, W].

    Returns:
        The values [N], and the gradient [N, C, H, W] of each value with respect to its sample.
    """
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        values = objective(points)
        (gradient,) = torch.autograd.grad(values.sum(), points)
    return values.detach(), gradient


def projection(images: Tensor, epsilon: float, norm: str) -> Callable[[Tensor], Tensor]:
    """The projection onto the ball ‖x' - x‖ ≤ epsilon around images, in [0, 1].

    "linf" gives the nearest point of the ball and the pixel range. "l2" gives the nearest point of the ball, then of
    the pixel range, which keeps it in the ball.

    Args:
        images: Centres of the balls, [N, C, H, W] in [0, 1].
        epsilon: Radius of the balls, in the [0, 1] pixel scale.
        norm: "linf" or "l2".

    Returns:
        Function from points [N, C, H, W] to projected points.
    """
    if norm == "linf":
        low, high = bounds(images, epsilon)
        return lambda points: points.clamp(low, high)

    def project(points: Tensor) -> Tensor:
        delta = points - images
        length = torch.linalg.vector_norm(delta, dim=(1, 2, 3), keepdim=True)
        return delta.mul_((epsilon / length.clamp_(min=1e-12)).clamp_(max=1)).add_(images).clamp_(0, 1)

    return project


def bounds(images: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The pixels within epsilon of the images and in [0, 1].

    Args:
        images: [N, C, H, W] in [0, 1].
        epsilon: Largest change of a pixel, in the [0, 1] scale.

    Returns:
        The lowest and the highest values, both [N, C, H, W].
    """
    return (images - epsilon).clamp_(min=0), (images + epsilon).clamp_(max=1)


def direction(gradient: Tensor, norm: str) -> Tensor:
    """The direction of steepest ascent.

    Args:
        gradient: [N, C, H, W].
        norm: "linf" or "l2".

    Returns:
        The gradient's sign ("linf"), or the gradient at unit length per sample ("l2"), [N, C, H, W].
    """
    return gradient.sign() if norm == "linf" else unit(gradient)


def unit(gradient: Tensor) -> Tensor:
    """Each sample's gradient [N, C, H, W] divided by its l2 length."""
    return gradient / torch.linalg.vector_norm(gradient, dim=(1, 2, 3), keepdim=True).clamp_(min=1e-12)


def per_sample(values: Tensor) -> Tensor:
    """Values [N] in the shape [N, 1, 1, 1], for computing with images."""
    return values.reshape(-1, 1, 1, 1)


def strongest(runs: Sequence[Run]) -> Run:
    """Per sample the best of several runs of one attack.

    Args:
        runs: At least one pair of images [N, C, H, W] and values [N].

    Returns:
        The images with the highest values, and these. Of equal ones the first.
    """
    (best, value), *others = runs
    for images, images_value in others:
        best = torch.where(per_sample(images_value > value), images, best)
        value = torch.maximum(value, images_value)
    return best, value


def refuse_nan(sums: Sequence[Tensor]) -> None:
    """Refuses an attack during which NaN came up.

    Args:
        sums: Scalars, each a sum over values and gradients.

    Raises:
        InputError: One of them is NaN.
    """
    if torch.stack(list(sums)).isnan().any():
        raise InputError(
            "The attacked score or its gradient became NaN, so that an attack would look weak where it can't see: "
            "check the network's weights, and that the score is finite and differentiable."
        )
