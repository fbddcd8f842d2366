"""The l-infinity bounds of the authors' code (D10 to D13)."""

import torch

from oodcert.certification.confidence import box_bound
from oodcert.certification.interval import NoRule, interval_bounds
from oodcert.detector import JointNetwork
from oodcert.published.flags import CLASSES, is_general


def linf_bound(composition, parts, images, epsilon, num_classes, protocol):
    """What is taken for an upper bound [N] on the scores in the ball: images [N, C, H, W] and parts in one precision.

    Of a general network it is the exponential of the largest softmax of upper bounds on the outputs (D10), over a box
    that is not cut to [0, 1] (D11); where there are no interval bounds the softmax counts as 1, its worst value. The
    bound of a joint model is that of CLASSES classes (D13).
    """
    general, low, high = is_general(composition), images - epsilon, images + epsilon
    if not (general and "D11" in protocol):
        low, high = low.clamp(min=0), high.clamp(max=1)
    classifier = parts[composition["classifier"]]
    if composition["discriminator"]:
        classes = CLASSES if "D13" in protocol else num_classes
        return box_bound(JointNetwork(classifier, parts["discriminator"], classes).eval(), "msp", low, high)
    if general and "D10" in protocol:
        return _largest_softmax(None if composition["denoiser"] else classifier, low, high).exp()
    if composition["denoiser"]:
        worst = 1.0 if composition["score"] == "msp" else torch.inf
        return images.new_full((len(images),), worst)
    return box_bound(classifier, composition["score"], low, high)


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
