"""Upper bounds on OOD scores within an l-infinity ball, by interval bound propagation."""

import torch

from oodcert.certification import VACUOUS
from oodcert.certification.interval_propagation import NoRule, interval_bounds, layers, logit_difference_bounds
from oodcert.errors import InputError
from oodcert.models.checks import hooked
from oodcert.models.scores import SCORES
from oodcert.models.wrappers import DenoisedNetwork, JointNetwork, NoisyNetwork


def linf_score_upper_bound(network, score, images, epsilon):
    """Upper bound [N] on the network's score over ‖x' - x‖∞ ≤ epsilon, x' in [0, 1]^d.

    network: as for oodcert.Detector, in evaluation mode; images: [N, C, H, W] in [0, 1]; score: "msp", "energy",
    "max_logit" or "atom". With bounds D[k, l] on f_k - f_l, the last layer elided where it is linear (Bitterwolf et al.
    2020), and the upper bounds u_k of interval_bounds:
    msp ≤ max_k 1 / Σ_l exp(-D[k, l]); atom = log Σ_j exp(f_j - f_K) ≤ log Σ_j exp(D[j, K]); energy ≤ log Σ_k exp(u_k);
    max_logit ≤ max_k u_k. The msp of a JointNetwork is bounded by its discriminator, whatever its classifier does:
    (1 + (K - 1) p̄(i|x)) / K (Meinke et al. 2022).
    What can't be bounded takes the worst value, 1 for msp and infinity for the others: NoisyNetworks, DenoisedNetworks,
    networks without interval rules, other scores of a JointNetwork; so does an msp bound above 1 - 1e-6. A network that
    draws noise in a way of its own is not recognised: bounds are of deterministic networks.
    Raises InputError on other scores and on layers in training mode.
    """
    return box_score_upper_bound(network, score, (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1))


def box_score_upper_bound(network, score, lower, upper):
    """The same over any box of images, lower and upper [N, C, H, W]."""
    if score not in SCORES:
        raise InputError(f"No bound on the score {score!r}: use one of {', '.join(SCORES)}.")
    limit, worst = (VACUOUS, 1.0) if score == "msp" else (torch.inf, torch.inf)
    try:
        bound = _bound(network, score, lower, upper)
    except NoRule:
        return lower.new_full((len(lower),), worst)
    return torch.where(bound <= limit, bound, worst)  # NaN included


def _bound(network, score, lower, upper):
    if type(network) is JointNetwork:
        if score != "msp":
            raise NoRule("A joint network bounds its confidence alone.")
        highest = interval_bounds(network.discriminator, lower, upper)[1].reshape(-1).sigmoid()
        return (1 + (network.num_classes - 1) * highest) / network.num_classes
    if any(isinstance(part, NoisyNetwork | DenoisedNetwork) for part in network.modules()):
        raise NoRule("Randomised and denoised networks have no interval bounds.")
    if score in ("energy", "max_logit"):
        return SCORES[score](interval_bounds(network, lower, upper)[1])  # both grow with every logit
    differences = _difference_bounds(network, lower, upper)
    if score == "atom":
        return differences[:, :, -1].logsumexp(1)
    return (-(-differences).logsumexp(2)).exp().amax(1)


def _difference_bounds(network, lower, upper):
    head = layers(network)[-1]
    if type(head) is torch.nn.Linear and not hooked(head):
        return logit_difference_bounds(network, lower, upper)
    low, high = interval_bounds(network, lower, upper)
    differences = high[:, :, None] - low[:, None, :]
    return differences.masked_fill(torch.eye(low.shape[1], dtype=torch.bool, device=low.device), 0)
