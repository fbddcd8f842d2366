"""Upper bounds on OOD scores within an l-infinity ball, by interval bound propagation."""

import torch
from torch import Tensor, nn

from oodcert.certification import VACUOUS_ABOVE
from oodcert.certification.interval_propagation import NoRule, difference_bounds, interval_bounds
from oodcert.errors import InputError
from oodcert.models.checks import hooked
from oodcert.models.scores import SCORES
from oodcert.models.wrappers import DenoisedNetwork, JointNetwork, NoisyNetwork


def linf_score_upper_bound(network: nn.Module, score: str, images: Tensor, epsilon: float) -> Tensor:
    """Upper bound on the network's score over ‖x' - x‖∞ ≤ epsilon, x' in [0, 1]^d.

    D[k, l] bounds f_k - f_l; the last layer is elided where it is linear (Bitterwolf et al. 2020). u_k is the upper
    bound of interval_bounds. Then:

    - msp ≤ max_k 1 / Σ_l exp(-D[k, l])
    - atom = log Σ_j exp(f_j - f_K) ≤ log Σ_j exp(D[j, K])
    - energy ≤ log Σ_k exp(u_k)
    - max_logit ≤ max_k u_k
    - msp of a JointNetwork ≤ (1 + (K - 1) p̄(i|x)) / K, p̄ the bound of its discriminator, whatever its classifier does
      (Meinke et al. 2022)

    What cannot be bounded takes the worst value, 1 for msp and infinity for the others: NoisyNetworks,
    DenoisedNetworks, networks without interval rules, other scores of a JointNetwork. So does an msp bound above
    1 - 1e-6. A network that draws noise in another way is not recognised: bounds are of deterministic networks.

    Args:
        network: As for oodcert.Detector, in evaluation mode.
        score: "msp", "energy", "max_logit" or "atom".
        images: [N, C, H, W] in [0, 1].
        epsilon: l∞ radius, in that pixel scale.

    Returns:
        Upper bounds [N].

    Raises:
        InputError: The score is another one, or a layer is in training mode.

    Source: Bitterwolf et al. 2020, https://arxiv.org/abs/2007.08473;
        Meinke et al. 2022, https://arxiv.org/abs/2106.04260
    """
    return box_score_upper_bound(network, score, (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1))


def box_score_upper_bound(network: nn.Module, score: str, lower: Tensor, upper: Tensor) -> Tensor:
    """Upper bound on the network's score over a box of images; all else as for `linf_score_upper_bound`.

    Args:
        network: As for oodcert.Detector, in evaluation mode.
        score: "msp", "energy", "max_logit" or "atom".
        lower: Smallest pixel values [N, C, H, W].
        upper: Largest pixel values [N, C, H, W].

    Returns:
        Upper bounds [N].

    Raises:
        InputError: The score is another one, bounds are swapped, or a layer is in training mode.
    """
    if score not in SCORES:
        raise InputError(f"No bound on the score {score!r}: use one of {', '.join(SCORES)}.")
    limit, worst = (VACUOUS_ABOVE, 1.0) if score == "msp" else (torch.inf, torch.inf)
    try:
        bound = _bound(network, score, lower, upper)
    except NoRule:
        return lower.new_full((len(lower),), worst)
    return torch.where(bound <= limit, bound, worst)  # NaN included


def _bound(network: nn.Module, score: str, lower: Tensor, upper: Tensor) -> Tensor:
    """The bounds [N], infinite or NaN where the arithmetic overflows. Raises NoRule where there is none."""
    if type(network) is JointNetwork:
        if score != "msp":
            raise NoRule("A joint network bounds its confidence alone.")
        if hooked(network):
            raise NoRule("Hooks, or a forward of its own, may change what the joint network computes.")
        if not isinstance(network.discriminator, nn.Module):
            raise NoRule("A function has no layers to bound.")
        highest = interval_bounds(network.discriminator, lower, upper)[1].reshape(-1).sigmoid()
        return (1 + (network.num_classes - 1) * highest) / network.num_classes
    if any(isinstance(module, NoisyNetwork | DenoisedNetwork) for module in network.modules()):
        raise NoRule("Randomised and denoised networks have no interval bounds.")
    if score in ("energy", "max_logit"):
        return SCORES[score](interval_bounds(network, lower, upper)[1])  # both grow with every logit
    differences = difference_bounds(network, lower, upper)
    if score == "atom":
        return differences[:, :, -1].logsumexp(1)
    return (-(-differences).logsumexp(2)).exp().amax(1)
