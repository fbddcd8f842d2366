"""The l2 "guarantee" of the authors' code from one method's votes on one image set (D2 to D5, D7). numpy only."""

from __future__ import annotations

from collections.abc import Iterable, Set

import numpy as np
from numpy.typing import NDArray

from oodcert.authors_code.flags import ALPHAS
from oodcert.certification.smoothing_bounds import vote_radius
from oodcert.config.method_specs import MethodSpec

CONSTANT = np.sqrt(2 / np.pi)


def own_radii(
    agreeing: NDArray[np.integer], n: int, sigma: float, alpha: float, protocol: Set[str], of_labels: bool = False
) -> NDArray[np.float64]:
    """The certified l2 radius of each image's vote.

    Args:
        agreeing: [N], how many of the n votes the class has.
        n: votes of each image.
        sigma: noise of the votes, in the pixel scale [0, 1].
        alpha: the config's error probability. The authors' code has its own, ALPHAS (D7).
        protocol: the flags that are as the authors' code has them.
        of_labels: whether the votes certify labels; otherwise scores.

    Returns:
        Radii [N], 0 where the vote abstains.
    """
    if "D7" in protocol:
        alpha = ALPHAS[of_labels]
    return vote_radius(agreeing, n, sigma, alpha)


def l2_scores(
    one_pass: NDArray[np.float64],
    bound: NDArray[np.float64],
    own: NDArray[np.float64],
    radius: float,
    is_id: bool,
    protocol: Set[str],
) -> NDArray[np.float64]:
    """The scores that enter the AUC at a queried radius.

    The authors' code takes one pass (D2) plus sqrt(2/π) times the image's own radius (D3). It takes 0 where the own
    radius is smaller than the queried one (D4), and nothing where the vote abstains, except at radius 0 (D5).
    Each flag is corrected by itself. Without D2 the bound stands in place of the sum. Without D3 the sum has the
    queried radius, and none for ID images. Without D4 the worst value stands in place of 0. Without D5 every image is
    there.

    Args:
        one_pass: [N], probability of the voted class in a single pass.
        bound: [N], upper bounds on the smoothed score at the image's own radius.
        own: [N], those radii; 0 is an abstention.
        radius: the queried l2 radius.
        is_id: whether the images are in-distribution.
        protocol: the flags that are as the authors' code has them.

    Returns:
        Scores [N] or, where abstentions are dropped, fewer.
    """
    distance = own if "D3" in protocol else 0.0 if is_id else radius
    scores = one_pass + CONSTANT * distance if "D2" in protocol else bound
    certified = (own > 0) & (own >= radius)
    uncertified = 0.0 if "D4" in protocol else -np.inf if is_id else np.inf
    scores = np.where(certified, scores, uncertified)
    return scores[own > 0] if "D5" in protocol and radius > 0 else scores


def certificate(method_spec: MethodSpec, bounds: Iterable[str]) -> str:
    """The sound l2 bound that the authors' one is compared with.

    Args:
        method_spec: what the method is made of.
        bounds: names of the config's l2 bounds.

    Returns:
        "lipschitz", the paper's kind, if the config has it and the method's score admits it; else "percentile".
    """
    return "lipschitz" if "lipschitz" in method_spec.admitted_bounds(bounds) else "percentile"
