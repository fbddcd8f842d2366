"""The l-infinity bounds of the authors' code (D10 to D13)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

import torch
from torch import Tensor, nn

from oodcert.authors_code.flags import CLASSES, is_general
from oodcert.certification.interval_propagation import NoRule, interval_bounds
from oodcert.certification.linf_bounds import box_score_upper_bound
from oodcert.config.method_specs import MethodSpec
from oodcert.models.wrappers import JointNetwork


def linf_bound(
    method_spec: MethodSpec,
    components: Mapping[str, nn.Module],
    images: Tensor,
    epsilon: float,
    num_classes: int,
    protocol: Set[str],
) -> Tensor:
    """What is taken for an upper bound on the scores in the l-infinity ball.

    Of a general network (oodcert.authors_code.flags.is_general) the authors' code takes the exponential of the largest
    softmax of upper bounds on the outputs (D10). Its box is not cut to the pixel range (D11). Where there are no
    interval bounds the softmax counts as 1, its worst value. A joint model's bound is that of CLASSES classes (D13).

    Args:
        method_spec: what the method is made of.
        components: its networks by name, in the precision of the images. No denoiser is needed.
        images: [N, C, H, W] in [0, 1].
        epsilon: radius of the ball, in the pixel scale [0, 1].
        num_classes: ID classes.
        protocol: the flags that are as the authors' code has them.

    Returns:
        Bounds [N].
    """
    general, low, high = is_general(method_spec), images - epsilon, images + epsilon
    if not (general and "D11" in protocol):
        low, high = low.clamp(min=0), high.clamp(max=1)
    classifier = components[method_spec.classifier]
    if method_spec.discriminator:
        classes = CLASSES if "D13" in protocol else num_classes
        joint = JointNetwork(classifier, components["discriminator"], classes).eval()
        return box_score_upper_bound(joint, "msp", low, high)
    if general and "D10" in protocol:
        return _largest_softmax(None if method_spec.denoiser else classifier, low, high).exp()
    if method_spec.denoiser:
        worst = 1.0 if method_spec.score == "msp" else torch.inf
        return images.new_full((len(images),), worst)
    return box_score_upper_bound(classifier, method_spec.score, low, high)


def joined(bounds: Iterable[Tensor], protocol: Set[str]) -> Tensor:
    """Bounds of several batches as one tensor.

    In the authors' code each batch first loses all dimensions of length one, so one image alone can't be joined (D12).

    Args:
        bounds: a tensor [N_i] or [N_i, 1] of each batch.
        protocol: the flags that are as the authors' code has them.

    Returns:
        The bounds [N] of all batches.

    Raises:
        RuntimeError: from torch, where D12 is in the protocol and a batch holds one image.
    """
    return torch.cat([bound.squeeze() if "D12" in protocol else bound.reshape(-1) for bound in bounds])


def _largest_softmax(network: nn.Module | None, low: Tensor, high: Tensor) -> Tensor:
    """The largest softmax [N] of upper bounds on the outputs in a box; 1 without a network or a rule for it."""
    worst = low.new_ones(len(low))
    if network is None:
        return worst
    try:
        largest = interval_bounds(network, low, high)[1].softmax(1).amax(1)
    except NoRule:
        return worst
    return torch.where(largest.isnan(), worst, largest)
