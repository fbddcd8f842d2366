"""Interval bound propagation (Gowal et al. 2018): sound output bounds over a box of inputs."""

import torch
from torch import nn
from torch.nn.functional import conv2d, linear

from oodcert.detector import JointNetwork
from oodcert.errors import InputError
from oodcert.networks.ibp_cnn import NegativeLinear

VACUOUS = 1 - 1e-6  # a confidence bound above this says nothing and is reported as 1

MONOTONE = (nn.ReLU, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d, nn.Flatten, nn.Identity)


def interval_bounds(network, lower, upper):
    """Bounds on a sequential CNN's outputs over the box lower ≤ x ≤ upper.

    network: nn.Sequential (nested allowed) of Conv2d, Linear, BatchNorm2d in evaluation mode, ReLU, pooling, Flatten,
    Dropout in evaluation mode. lower, upper: [N, C, H, W], lower ≤ upper. Returns (lower, upper) [N, K], differentiable
    in the weights. Sound in exact arithmetic; evaluate in float64 to make the rounding error negligible.
    Raises InputError naming the layer that has no rule.
    """
    if not bool((lower <= upper).all()):
        raise InputError("interval_bounds needs lower ≤ upper everywhere; the two arguments may be swapped.")
    kind = type(network)  # a subclass may compute something else
    if kind is nn.Sequential:
        for layer in network:
            lower, upper = interval_bounds(layer, lower, upper)
        return lower, upper
    if kind in MONOTONE:
        return network(lower), network(upper)
    if kind in (nn.BatchNorm2d, nn.Dropout) and network.training:
        raise InputError(f"{kind.__name__} is in training mode: call .eval() before bounding the network.")
    if kind is nn.Dropout:
        return lower, upper
    centre, half = (lower + upper) / 2, (upper - lower) / 2
    if kind is nn.Conv2d:
        if network.padding_mode != "zeros":
            raise InputError(f"No interval rule for Conv2d with padding_mode={network.padding_mode!r}: use 'zeros'.")
        options = (network.stride, network.padding, network.dilation, network.groups)
        centre, half = network(centre), conv2d(half, network.weight.abs(), None, *options)
    elif kind is nn.BatchNorm2d:
        scale = 1 / torch.sqrt(network.running_var + network.eps)
        scale = scale if network.weight is None else scale * network.weight
        centre, half = network(centre), half * scale.abs()[:, None, None]
    elif kind is NegativeLinear:
        centre, half = network(centre), linear(half, network.effective_weight().abs())
    elif kind is nn.Linear:
        centre, half = network(centre), linear(half, network.weight.abs())
    else:
        raise InputError(
            f"No interval rule for the layer {kind.__name__}: its bound would be vacuous. "
            "Supported: Conv2d, Linear, BatchNorm2d, ReLU, pooling, Flatten, Dropout, Sequential."
        )
    return centre - half, centre + half


def confidence_bound(network, images, epsilon):
    """Upper bound on the network's confidence max_y p(y|x') over ‖x' - x‖∞ ≤ epsilon, x' in [0, 1]: [N] in [1/K, 1].

    A joint network is bounded by its discriminator, whatever its classifier does: (1 + (K - 1) p̄(i|x)) / K (Meinke et
    al. 2022). A sequential network is bounded through its layers: p_k ≤ sigmoid(u_k - logsumexp_{j≠k} l_j). Any other
    network, and any bound above 1 - 1e-6, counts as vacuous: 1.
    """
    lower, upper = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)
    if type(network) is JointNetwork:
        highest = interval_bounds(network.discriminator, lower, upper)[1].reshape(-1).sigmoid()
        bound = (1 + (network.num_classes - 1) * highest) / network.num_classes
    elif type(network) is nn.Sequential:
        low, high = interval_bounds(network, lower, upper)
        others = torch.eye(low.shape[1], dtype=torch.bool, device=low.device)
        rest = low[:, None, :].masked_fill(others, float("-inf")).logsumexp(2)
        bound = (high - rest).sigmoid().amax(1)
    else:
        bound = images.new_ones(images.shape[0])
    return torch.where(bound > VACUOUS, torch.ones_like(bound), bound)
