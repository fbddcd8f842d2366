"""What the attacks share: values with gradients, the ball, directions, and the refusal of NaN."""

import torch

from oodcert.errors import InputError


def value_and_gradient(objective, points):
    """Values [N] of a per-sample objective, and the gradient [N, C, H, W] of each with respect to its own sample."""
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        values = objective(points)
        (gradient,) = torch.autograd.grad(values.sum(), points)
    return values.detach(), gradient


def projection(images, epsilon, norm):
    """The function from points [N, C, H, W] to points of the ball ‖x' - x‖ ≤ epsilon around images, in [0, 1].

    norm "linf" gives the nearest point of both, "l2" the nearest of the ball, then of the pixel range, which keeps it
    in the ball.
    """
    if norm == "linf":
        low, high = bounds(images, epsilon)
        return lambda points: points.clamp(low, high)

    def project(points):
        delta = points - images
        length = torch.linalg.vector_norm(delta, dim=(1, 2, 3), keepdim=True)
        return delta.mul_((epsilon / length.clamp_(min=1e-12)).clamp_(max=1)).add_(images).clamp_(0, 1)

    return project


def bounds(images, epsilon):
    """(lowest, highest) pixels within epsilon of the images, in [0, 1]."""
    return (images - epsilon).clamp_(min=0), (images + epsilon).clamp_(max=1)


def direction(gradient, norm):
    """The gradient's sign (linf), or the gradient at unit length per sample (l2)."""
    return gradient.sign() if norm == "linf" else unit(gradient)


def unit(gradient):
    """Each sample's gradient divided by its l2 length."""
    return gradient / torch.linalg.vector_norm(gradient, dim=(1, 2, 3), keepdim=True).clamp_(min=1e-12)


def per_sample(values):
    """Values [N] in the shape [N, 1, 1, 1] of what they belong to."""
    return values.reshape(-1, 1, 1, 1)


def strongest(runs):
    """Per sample the best of several runs (images [N, C, H, W], values [N]) of one attack."""
    (best, value), *others = runs
    for found, found_value in others:
        best = torch.where(per_sample(found_value > value), found, best)
        value = torch.maximum(value, found_value)
    return best, value


def refuse_nan(sums):
    """Raises InputError if one of these scalars, sums over values and gradients, is NaN."""
    if torch.stack(sums).isnan().any():
        raise InputError(
            "The attacked score or its gradient became NaN, so that an attack would look weak where it can't see: "
            "check the network's weights, and that the score is finite and differentiable."
        )
