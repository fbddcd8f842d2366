"""Detection metrics: ID images are the positives, and a higher score means more in-distribution.

Source: Hendrycks and Gimpel (2017), "A baseline for detecting misclassified and out-of-distribution examples in neural
networks", https://arxiv.org/abs/1610.02136 (AUC and AUPR, with ID as the positive class); Liang, Li and Srikant (2018),
"Enhancing the reliability of out-of-distribution image detection in neural networks", https://arxiv.org/abs/1706.02690
(FPR at 95 % TPR).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from oodcert.errors import InputError
from oodcert.runtime.values import score_array
from oodcert.statistics.failing_bounds import CONFIDENCE, bounds_at_confidence, largest_alpha, table_error
from oodcert.statistics.tables import check_table

METRICS = ("auc", "aupr", "fpr95")


def ood_metrics(id_scores: ArrayLike, ood_scores: ArrayLike, guaranteed: bool = False) -> dict[str, float]:
    """AUC, AUPR and FPR at 95 % TPR of in-distribution against out-of-distribution scores.

    All three depend on the order of the scores alone. In the AUC a tie counts one half. In the FPR it counts against
    the detector. The AUPR depends on the ratio N:M.

    Args:
        id_scores: [N] or [N, 1] numbers, higher = more in-distribution. -inf and +inf are allowed: they are the worst
            values of a bound that could not be certified.
        ood_scores: [M] or [M, 1] numbers, likewise.
        guaranteed: False: the AUPR is scikit-learn's average precision, which a lower ID score can raise where it
            makes a tie. True: in the AUPR ties, also those among ID scores, count against the detector, so that no
            lower ID score and no higher OOD score makes any of the three metrics better.

    Returns:
        "auc", "aupr" and "fpr95" -> floats in [0, 1].

    Raises:
        InputError: on NaN, on an empty set, and on what is no list of real numbers.

    Source: the AUC is the area under scikit-learn's ROC curve,
    https://scikit-learn.org/stable/modules/generated/sklearn.metrics.roc_auc_score.html, computed as the statistic of
    Mann and Whitney (1947), https://doi.org/10.1214/aoms/1177730491. The AUPR is scikit-learn's,
    https://scikit-learn.org/stable/modules/generated/sklearn.metrics.average_precision_score.html.
    """
    id_scores, ood_scores = score_array("ID", id_scores), score_array("OOD", ood_scores)
    for name, scores in (("ID", id_scores), ("OOD", ood_scores)):
        if scores.size == 0:
            raise InputError(f"The {name} set has no scores: metrics need at least one image of each side.")
        if np.isnan(scores).any():
            raise InputError(
                f"{np.isnan(scores).sum()} of {scores.size} {name} scores are NaN: "
                "no metric is defined for them. Check the network's outputs on these images."
            )
    return dict(_metrics(id_scores.tobytes(), ood_scores.tobytes(), guaranteed))


@lru_cache(maxsize=10_000)  # tables, figures and the audit of a run ask for the same ones again and again
def _metrics(id_bytes: bytes, ood_bytes: bytes, guaranteed: bool) -> dict[str, float]:
    """The metrics of float64 scores, as bytes."""
    id_scores, ood_scores = np.frombuffer(id_bytes), np.frombuffer(ood_bytes)
    return {
        "auc": _share_in_order(id_scores, ood_scores),
        "aupr": (_worst_precision if guaranteed else _average_precision)(id_scores, ood_scores),
        "fpr95": false_positive_rate(id_scores, ood_scores, tpr=0.95),
    }


def _share_in_order(id_scores: NDArray[np.float64], ood_scores: NDArray[np.float64]) -> float:
    """The AUC: the share of pairs whose ID score is the higher one, by Mann and Whitney's sum of the ID ranks."""
    count = id_scores.size
    ranks = rankdata(np.concatenate([id_scores, ood_scores]))[:count]
    return float((ranks.sum() - count * (count + 1) / 2) / (count * ood_scores.size))


def _average_precision(id_scores: NDArray[np.float64], ood_scores: NDArray[np.float64]) -> float:
    """Scikit-learn's average precision of the scores' ranks, since it takes no infinite score."""
    from sklearn.metrics import average_precision_score  # it takes a second: not in those who only plan

    ranks = np.unique(np.concatenate([id_scores, ood_scores]), return_inverse=True)[1]
    return float(average_precision_score(np.arange(ranks.size) < id_scores.size, ranks))


def _worst_precision(id_scores: NDArray[np.float64], ood_scores: NDArray[np.float64]) -> float:
    """Average precision with every tie broken against the detector: the mean of j / (j + OOD scores ≥ the j-th)."""
    accepted = np.arange(1, id_scores.size + 1)
    above = ood_scores.size - np.searchsorted(np.sort(ood_scores), np.sort(id_scores)[::-1], side="left")
    return float(np.mean(accepted / (accepted + above)))


def false_positive_rate(id_scores: ArrayLike, ood_scores: ArrayLike, tpr: float = 0.95) -> float:
    """Share of the OOD scores that reach the threshold at which a share `tpr` of the ID scores is accepted.

    Args:
        id_scores: [N] floats, higher = more in-distribution.
        ood_scores: [M] floats.
        tpr: true positive rate in (0, 1].

    Returns:
        The false positive rate in [0, 1].
    """
    return float(np.mean(np.asarray(ood_scores) >= tpr_threshold(id_scores, tpr)))


def tpr_threshold(id_scores: ArrayLike, tpr: float = 0.95) -> Any:
    """The highest threshold that at least a share `tpr` of the ID scores reaches.

    Args:
        id_scores: [N] floats, higher = more in-distribution.
        tpr: true positive rate in (0, 1].

    Returns:
        One of the ID scores, of their type.
    """
    ordered = np.sort(id_scores)
    return ordered[len(ordered) - int(np.ceil(tpr * len(ordered) - 1e-9))]


def guaranteed_metrics(
    id_table: pd.DataFrame,
    ood_table: pd.DataFrame,
    two_sided: bool = False,
    *,
    confidence: float | None = CONFIDENCE,
    sets: int = 1,
) -> pd.DataFrame:
    """Metrics of the smoothed detector that no l2 perturbation of the OOD images within the radius can make worse.

    That holds for the metrics of a row at once with the given confidence, over the noise draws. Each bound of the
    tables fails with probability alpha, so hardly more than a binomial quantile of them fail at once. So many bounds on
    each side are taken for failed, and those whose loss is worst take their worst value (see
    oodcert.statistics.failing_bounds for the proof). An alpha of about 0.001 keeps that to a few images.

    Without a confidence all bounds are taken at their word. A single bound that fails can then make FPR95 or AUPR too
    favourable, and at usual numbers of images and of alpha some bound does fail. The AUC is too high by at most the
    sum of both tables' alpha in expectation: a pair of images counts too favourably only if one of its bounds fails.

    The ID side takes its lower confidence bounds at radius 0. The OOD side takes its upper bounds at each radius. A
    sample without a certificate has an infinite bound, its worst value.

    Args:
        id_table: table of `oodcert.certify` of the ID images, at one sigma.
        ood_table: the same of the OOD images, at the same sigma, over the same bounds.
        two_sided: True: the ID side takes its bounds at the same radius as the OOD side, for an adversary who perturbs
            the ID images as well.
        confidence: of the three metrics of a row, between 0 and 1. None: no confidence; the bounds hold per image.
        sets: number of OOD sets whose metrics hold at once at that confidence, so that their mean does too.

    Returns:
        A DataFrame with a row per bound x radius: bound, radius, auc, aupr, fpr95, and confidence. Without a
        confidence, the last column is per_image_alpha instead: the largest alpha of the bounds, NaN if the tables have
        none.

    Raises:
        InputError: if the tables mix sigmas or detectors, lack the ID side's radius, or hold NaN; with a confidence
            also if their alpha is unknown.
    """
    error = None if confidence is None else table_error(confidence, sets)
    _check_alike(id_table, ood_table)
    id_side = id_table if two_sided else id_table[id_table["radius"] == 0]
    id_cells = dict(list(id_side.groupby(["bound", "radius"])))
    lower = {cell: bounds_at_confidence(rows, "lower", error) for cell, rows in id_cells.items()}
    rows: list[dict[str, Any]] = []
    for (bound, radius), ood in ood_table.groupby(["bound", "radius"], sort=True):
        other = (bound, radius if two_sided else 0.0)
        if other not in lower:
            raise InputError(
                f"The ID table has no rows of bound {bound!r} at radius {other[1]:g}: "
                f"certify it with {other[1]:g} in radii."
            )
        metrics = ood_metrics(lower[other], bounds_at_confidence(ood, "upper", error), guaranteed=True)
        rows.append({"bound": bound, "radius": radius, **metrics, **_statement(confidence, id_cells[other], ood)})
    return pd.DataFrame(rows)


def certified_rates(
    id_table: pd.DataFrame, ood_table: pd.DataFrame, *, confidence: float | None = CONFIDENCE
) -> pd.DataFrame:
    """The certified TPR and FPR of the majority vote at a threshold (bound "vote" of `oodcert.certify`).

    Both rates of a row hold at once with the given confidence: the images that may be misjudged with it (see
    `guaranteed_metrics`) are counted against the detector.

    Args:
        id_table: table of `oodcert.certify` of the ID images.
        ood_table: the same of the OOD images.
        confidence: of the two rates of a row, between 0 and 1. None: no confidence; each image is judged with error
            probability alpha.

    Returns:
        A DataFrame with a row per radius: radius; tpr, the share of the ID images that no perturbation within the
        radius can get rejected; fpr, the share of the OOD images that some perturbation within it may get accepted;
        and confidence or per_image_alpha, as of `guaranteed_metrics`. At a threshold of 95 % TPR, fpr is the certified
        FPR95.

    Raises:
        InputError: if a table has no rows of the vote bound, or the tables mix thresholds, sigmas or detectors;
            with a confidence also if their alpha is unknown.
    """
    error = None if confidence is None else table_error(confidence, 1)
    _check_alike(id_table, ood_table)
    votes = [table[table["bound"].str.startswith("vote")] for table in (id_table, ood_table)]
    if any(table.empty for table in votes):
        raise InputError("A table has no rows of the vote bound: certify it with bounds=['vote'] and a threshold.")
    thresholds = {*votes[0]["bound"], *votes[1]["bound"]}
    if len(thresholds) != 1:
        raise InputError(f"The two tables mix {' and '.join(sorted(thresholds))}: use one threshold for both.")
    tpr, fpr = (
        pd.Series({radius: _accepted(rows, side, error) for radius, rows in table.groupby("radius")}, dtype=float)
        for table, side in zip(votes, ("lower", "upper"), strict=True)
    )
    rates = pd.DataFrame({"tpr": tpr, "fpr": fpr}).rename_axis("radius").reset_index()
    return rates.assign(**_statement(confidence, *votes))


def _accepted(votes: pd.DataFrame, side: str, error: float | None) -> float:
    """The share of images that the majority vote accepts by the bounds of one side at one radius."""
    return float(np.mean(bounds_at_confidence(votes, side, error) >= 0.5))


def _statement(confidence: float | None, *tables: pd.DataFrame) -> dict[str, float]:
    """What metrics hold with, as a column: their confidence, or the largest alpha of each bound (NaN if unknown)."""
    if confidence is not None:
        return {"confidence": float(confidence)}
    known = all("alpha" in table for table in tables)
    return {"per_image_alpha": max(largest_alpha(table, "A table") for table in tables) if known else float("nan")}


def _check_alike(*tables: pd.DataFrame) -> None:
    """Raises InputError unless the ID and the OOD table hold one sigma and, where they name them, one detector."""
    for name, table in zip(("ID", "OOD"), tables, strict=True):
        check_table(name, table)
    for key in ("sigma", "detector"):
        values = sorted({value for table in tables if key in table for value in table[key].unique()})
        if len(values) > 1:
            listed = ", ".join(map(str, values))
            raise InputError(f"The tables mix {key} = {listed}: pass the rows of one {key} at a time.")
