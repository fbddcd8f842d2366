"""The l2 "guarantee" of the authors' code from one method's votes on one image set (D2 to D5, D7). numpy only."""

import numpy as np

from oodcert.authors_code.flags import ALPHAS
from oodcert.certification.smoothing_bounds import vote_radius
from oodcert.config.method_specs import MethodSpec

CONSTANT = np.sqrt(2 / np.pi)


def own_radii(agreeing, n, sigma, alpha, protocol, of_labels=False):
    """The certified radius of each image's vote [N], 0 where it abstains; alpha is the config's (D7)."""
    if "D7" in protocol:
        alpha = ALPHAS[of_labels]
    return vote_radius(agreeing, n, sigma, alpha)


def l2_scores(one_pass, bound, own, radius, inside, protocol):
    """The scores that enter the AUC at a queried radius, [N] or, where abstentions are dropped, fewer.

    one_pass [N]: probability of the voted class in a single pass; bound [N]: upper bounds on the smoothed score at the
    image's own radius; own [N]: those radii, 0 for an abstention; inside: whether the images are in-distribution.
    Published: one pass (D2) plus sqrt(2/π) times the own radius (D3), 0 where it is smaller than the queried (D4), and
    nothing where the vote abstains, except at radius 0 (D5). Sound, each by itself: the bound in place of the sum; the
    queried radius, and none for ID images; the worst value; every image.
    """
    distance = own if "D3" in protocol else 0.0 if inside else radius
    scores = one_pass + CONSTANT * distance if "D2" in protocol else bound
    certified = (own > 0) & (own >= radius)
    uncertified = 0.0 if "D4" in protocol else -np.inf if inside else np.inf
    scores = np.where(certified, scores, uncertified)
    return scores[own > 0] if "D5" in protocol and radius > 0 else scores


def certificate(method_spec: MethodSpec, bounds):
    """The sound l2 bound that stands against the published one: lipschitz, the paper's kind, where the config's bounds
    and the method's score admit it, else percentile."""
    return "lipschitz" if "lipschitz" in method_spec.admitted_bounds(bounds) else "percentile"
