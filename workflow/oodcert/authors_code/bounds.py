"""The l-infinity bounds of the authors' code (D10 to D13)."""

import torch

from oodcert.authors_code.flags import CLASSES, is_general
from oodcert.certification.interval_propagation import NoRule, interval_bounds
from oodcert.certification.linf_bounds import box_score_upper_bound
from oodcert.models.wrappers import JointNetwork


def linf_bound(method_spec, parts, images, epsilon, num_classes, protocol):
    """What is taken for an upper bound [N] on the scores in the ball: images [N, C, H, W] and parts in one precision.

    Of a general network it is the exponential of the largest softmax of upper bounds on the outputs (D10), over a box
    that is not cut to [0, 1] (D11); where there are no interval bounds the softmax counts as 1, its worst value. The
    bound of a joint model is that of CLASSES classes (D13).
    """
    general, low, high = is_general(method_spec), images - epsilon, images + epsilon
    if not (general and "D11" in protocol):
        low, high = low.clamp(min=0), high.clamp(max=1)
    classifier = parts[method_spec["classifier"]]
    if method_spec["discriminator"]:
        classes = CLASSES if "D13" in protocol else num_classes
        return box_score_upper_bound(JointNetwork(classifier, parts["discriminator"], classes).eval(), "msp", low, high)
    if general and "D10" in protocol:
        return _largest_softmax(None if method_spec["denoiser"] else classifier, low, high).exp()
    if method_spec["denoiser"]:
        worst = 1.0 if method_spec["score"] == "msp" else torch.inf
        return images.new_full((len(images),), worst)
    return box_score_upper_bound(classifier, method_spec["score"], low, high)


def _largest_softmax(network, low, high):
    worst = low.new_ones(len(low))
    if network is None:
        return worst
    try:
        found = interval_bounds(network, low, high)[1].softmax(1).amax(1)
    except NoRule:
        return worst
    return torch.where(found.isnan(), worst, found)


def joined(bounds, protocol):
    """Bounds of several batches as one tensor; published, each loses all dimensions of length one first (D12)."""
    return torch.cat([bound.squeeze() if "D12" in protocol else bound.reshape(-1) for bound in bounds])
