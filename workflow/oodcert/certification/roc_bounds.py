"""The certified ROC of the detector that takes one noisy pass, from draws of its scores. Imports no torch.

The detector accepts an image as in-distribution (ID) if s(x + δ) ≥ c, with fresh noise δ ~ N(0, sigma² I) at each
query. An adversary moves each OOD image by at most R in l2 norm. The adversary knows everything but the noise. Of all
statements here each holds with the stated confidence over the draws, and over the images where they stand for a
population.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from oodcert.certification.acceptance_bounds import (
    acceptance_rank,
    attacked_acceptance,
    attacked_mean_bound,
    mean_acceptance_bound,
    mean_lower_bound,
    moved_id_acceptance,
    rejection_at_rank,
)
from oodcert.certification.cdf_bands import cdf_band

THRESHOLDS = 100  # at most, of a curve
TPR = 0.95  # of the threshold of FPR95
TANGENT_DRAWS = 4  # from so many draws an image on, and 4 to the power of R / sigma, tangents bound AUC and FPR95


@dataclass(frozen=True)
class Statement:
    """What is certified.

    Attributes:
        confidence: 1 - the error probability of each metric at each radius. A curve holds at all thresholds at once.
        population: Whether the statement is on the populations that the images are drawn from, independently. Otherwise
            it is on these very images.
        id_moved: Whether the adversary moves ID images too, each by at most R.
        tries: Queries that the adversary has for each OOD image.
    """

    confidence: float = 0.99
    population: bool = False
    id_moved: bool = False
    tries: int = 1

    @property
    def side_alpha(self) -> float:
        """The error probability of what the ID draws say, and of what the OOD draws say."""
        return (1 - self.confidence) / 2


@dataclass(frozen=True)
class Curve:
    """Bounds at thresholds [J], ascending: the ROC without a move, from above for OOD images, from both sides for ID.

    Between two thresholds the acceptance is at most that of the lower one. Below the lowest threshold it is at most 1.
    """

    thresholds: np.ndarray
    fpr: np.ndarray
    tpr_lower: np.ndarray
    tpr_upper: np.ndarray


def roc_curve_bounds(id_draws: np.ndarray, ood_draws: np.ndarray, statement: Statement) -> Curve:
    """Bounds on the noisy ROC at R = 0 that hold at all thresholds at once.

    The thresholds are ID draws of certain ranks. What ID draws say there follows from the ranks (rejection_at_rank).
    OOD draws are independent of them (mean_acceptance_bound). Both hold at all thresholds by a union bound, of images
    that need not be alike. Of a population, whose images have one draw each, all draws of a side are alike too, and
    the bands of Berk and Jones hold, which are tighter.

    Args:
        id_draws: Scores [N, m] of the ID images, of a population [N, 1].
        ood_draws: Scores [M, m] of the OOD images, of a population [M, 1].
        statement: What is certified.

    Returns:
        The bounds.
    """
    alpha, ordered = statement.side_alpha, np.sort(id_draws.ravel())
    ranks = np.unique(np.linspace(1, len(ordered), min(THRESHOLDS, len(ordered))).round().astype(int))
    thresholds, below = ordered[ranks - 1], np.concatenate([ordered[:1], ordered[ranks[:-1] - 1]])
    if statement.population:
        fpr = _population_acceptance(ood_draws.ravel(), thresholds, alpha)
        lower = 1 - _population_acceptance(-ordered, np.nextafter(-thresholds, np.inf), alpha / 2)
        upper = _population_acceptance(ordered, thresholds, alpha / 2)
        return Curve(thresholds, fpr, lower, upper)
    count = len(ranks)
    fpr = mean_acceptance_bound(_accepted(ood_draws.ravel(), thresholds), ood_draws.size, alpha / count)
    lower = 1 - rejection_at_rank(ranks, len(ordered), alpha / (2 * count))
    above = rejection_at_rank(
        len(ordered) + 1 - ranks, len(ordered), alpha / (2 * count)
    )  # of a score over a threshold
    upper = np.append(1.0, above[:-1])  # of one that reaches a threshold, which is over the one before it, or ties
    return Curve(thresholds, fpr, lower, np.where(thresholds > below, upper, 1.0))


def certified_curve(curve: Curve, shift: float, statement: Statement) -> pd.DataFrame:
    """The certified ROC: the bounds at R = 0, moved by R / sigma in probit space.

    Args:
        curve: Of roc_curve_bounds.
        shift: R / sigma.
        statement: What is certified.

    Returns:
        A row a threshold: threshold, fpr (at most), tpr (at least).
    """
    tpr = moved_id_acceptance(curve.tpr_lower, shift) if statement.id_moved else curve.tpr_lower
    fpr = attacked_acceptance(curve.fpr, shift, statement.tries)
    return pd.DataFrame({"threshold": curve.thresholds, "fpr": fpr, "tpr": tpr})


def certified_auc(
    id_draws: np.ndarray, ood_draws: np.ndarray, curve: Curve, shift: float, statement: Statement
) -> float:
    """The AUC that no move within R makes worse; ties count against the detector.

    Of a fixed set whose ID images stay, it is mean_lower_bound of one minus attacked_mean_bound at all ID draws as
    thresholds: the loss from the mean of unlike images is small there. Otherwise the certified curve is integrated by
    steps.

    Args:
        id_draws: As for roc_curve_bounds.
        ood_draws: As for roc_curve_bounds.
        curve: Of roc_curve_bounds.
        shift: R / sigma.
        statement: What is certified.

    Returns:
        The value, in [0, 1].
    """
    alpha = statement.side_alpha
    if not statement.id_moved and _takes_tangents(ood_draws, shift, statement):
        references = np.sort(id_draws.ravel())
        accepted = attacked_mean_bound(ood_draws, references, shift, alpha, statement.tries)
        return mean_lower_bound(1 - accepted, len(references), alpha)
    rows = certified_curve(curve, shift, statement)
    rejected = np.diff(1 - np.minimum.accumulate(rows["fpr"]), prepend=0)
    return float(rejected @ rows["tpr"])


def certified_aupr(curve: Curve, shift: float, statement: Statement, id_share: float) -> float:
    """The area under precision and recall (ID positive) that no move within R makes worse.

    It is the mean, over ID scores c, of the precision at c. The precision between two thresholds is at least P_j, which
    the bounds give. The mean is the sum of (P_j - P_(j-1)) S_j, S_j the share of ID scores from the j-th threshold on,
    and each S_j lies between its own bounds.

    Args:
        curve: Of roc_curve_bounds.
        shift: R / sigma.
        statement: What is certified.
        id_share: Share of ID images among all, in (0, 1): precision depends on it.

    Returns:
        The value, in [0, 1].
    """
    rows = certified_curve(curve, shift, statement)
    lower, fpr = rows["tpr"].to_numpy(), np.minimum.accumulate(rows["fpr"].to_numpy())
    upper = attacked_acceptance(curve.tpr_upper, shift) if statement.id_moved else curve.tpr_upper
    recall, fpr = np.append(lower, 0), np.append(1.0, fpr)  # between two thresholds, and below and above all of them
    precision = id_share * recall / np.maximum(id_share * recall + (1 - id_share) * fpr, 1e-300)
    rises = np.diff(precision)
    return float(np.clip(precision[0] + rises @ np.where(rises > 0, lower, upper), 0, 1))


def certified_fpr95(
    id_draws: np.ndarray, ood_draws: np.ndarray, shift: float, statement: Statement
) -> tuple[float, float]:
    """The FPR that no move within R exceeds, at a threshold that accepts at least 95 % of the ID queries.

    Args:
        id_draws: As for roc_curve_bounds.
        ood_draws: As for roc_curve_bounds.
        shift: R / sigma.
        statement: What is certified.

    Returns:
        (FPR, threshold): (1, -inf) where too few draws certify any threshold.
    """
    alpha, threshold = statement.side_alpha, certified_threshold(id_draws, shift, statement)
    if np.isneginf(threshold):
        return 1.0, threshold
    if _takes_tangents(ood_draws, shift, statement):
        return attacked_mean_bound(ood_draws, np.array([threshold]), shift, alpha, statement.tries), threshold
    accepted = mean_acceptance_bound(_accepted(ood_draws.ravel(), np.array([threshold])), ood_draws.size, alpha)
    return float(attacked_acceptance(accepted, shift, statement.tries)[0]), threshold


def certified_threshold(id_draws: np.ndarray, shift: float, statement: Statement) -> float:
    """The threshold of certified_fpr95; -inf where too few draws certify any."""
    scores, rejected = np.sort(id_draws.ravel()), 1 - TPR
    if statement.id_moved:
        rejected = float(1 - attacked_acceptance(np.array(TPR), shift))
    rank = acceptance_rank(len(scores), rejected, statement.side_alpha)
    return float(scores[rank - 1]) if rank else -np.inf


def certified_metrics(
    id_draws: np.ndarray, ood_draws: np.ndarray, curve: Curve, shift: float, statement: Statement
) -> dict[str, float]:
    """All certified metrics at one radius.

    Args:
        id_draws: As for roc_curve_bounds.
        ood_draws: As for roc_curve_bounds.
        curve: Of roc_curve_bounds.
        shift: R / sigma.
        statement: What is certified.

    Returns:
        auc, aupr (of as many ID and OOD images as there are), fpr95 and threshold, at which fpr95 holds.
    """
    fpr95, threshold = certified_fpr95(id_draws, ood_draws, shift, statement)
    id_share = len(id_draws) / (len(id_draws) + len(ood_draws))
    return {
        "auc": certified_auc(id_draws, ood_draws, curve, shift, statement),
        "aupr": certified_aupr(curve, shift, statement, id_share),
        "fpr95": fpr95,
        "threshold": threshold,
    }


def _takes_tangents(ood_draws: np.ndarray, shift: float, statement: Statement) -> bool:
    """Whether tangents are tighter than the pooled bound: what is known before the draws decides."""
    return not statement.population and ood_draws.shape[1] >= max(TANGENT_DRAWS, TANGENT_DRAWS**shift)


def _accepted(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many scores reach each threshold, [J]."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds)


def _population_acceptance(scores: np.ndarray, thresholds: np.ndarray, alpha: float) -> np.ndarray:
    """Simultaneous upper bounds on P(score ≥ threshold), from independent draws of one distribution."""
    ranks, levels = cdf_band("berk-jones", len(scores), alpha)
    below = np.searchsorted(np.sort(scores), thresholds)  # ranks of scores below the threshold
    position = np.searchsorted(ranks, below, side="right")
    return 1 - np.concatenate([[0.0], levels])[position]
