"""Detection metrics: ID positive, higher score = more in-distribution."""

from functools import lru_cache

import numpy as np
import pandas as pd
from sklearn.metrics import auc, average_precision_score, roc_curve

from oodcert.errors import InputError

METRICS = ("auc", "aupr", "fpr95")


def ood_metrics(id_scores, ood_scores, guaranteed=False):
    """AUC, AUPR and FPR at 95 % TPR of in-distribution against out-of-distribution scores.

    id_scores [N], ood_scores [M]: floats, higher = more in-distribution. -inf and +inf are allowed and mean
    the worst value of a bound that could not be certified. All three metrics depend on the order of the scores
    alone; ties count one half in the AUC and against the detector in the FPR. AUPR depends on N:M; it is
    scikit-learn's, whose treatment of ties lets lower ID scores raise it, unless guaranteed: then ties, also those
    among ID scores, count against the detector, and no lower ID or higher OOD score makes any of the three better.

    Returns a dict of floats in [0, 1]: auc, aupr, fpr95. Raises InputError on NaN or on an empty set.
    """
    id_scores, ood_scores = np.asarray(id_scores, np.float64), np.asarray(ood_scores, np.float64)
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
def _metrics(id_scores, ood_scores, guaranteed):
    """The metrics of float64 scores, as bytes."""
    id_scores, ood_scores = np.frombuffer(id_scores), np.frombuffer(ood_scores)
    ranks = np.unique(np.concatenate([id_scores, ood_scores]), return_inverse=True)[1]
    is_id = np.arange(ranks.size) < id_scores.size
    false_positive, true_positive, _ = roc_curve(is_id, ranks)
    return {
        "auc": float(auc(false_positive, true_positive)),
        "aupr": _worst_precision(id_scores, ood_scores) if guaranteed else float(average_precision_score(is_id, ranks)),
        "fpr95": false_positive_rate(id_scores, ood_scores, tpr=0.95),
    }


def _worst_precision(id_scores, ood_scores):
    """Average precision with every tie broken against the detector: the mean of j / (j + OOD scores ≥ the j-th)."""
    accepted = np.arange(1, id_scores.size + 1)
    above = ood_scores.size - np.searchsorted(np.sort(ood_scores), np.sort(id_scores)[::-1], side="left")
    return float(np.mean(accepted / (accepted + above)))


def false_positive_rate(id_scores, ood_scores, tpr=0.95):
    """Share of OOD scores at or above the highest threshold that still accepts a share `tpr` of the ID scores."""
    return float(np.mean(np.asarray(ood_scores) >= tpr_threshold(id_scores, tpr)))


def tpr_threshold(id_scores, tpr=0.95):
    """The highest threshold that at least a share `tpr` of the ID scores reaches."""
    accepted = int(np.ceil(tpr * len(id_scores) - 1e-9))
    return np.sort(id_scores)[len(id_scores) - accepted]


def guaranteed_metrics(id_table, ood_table, two_sided=False):
    """Metrics of the smoothed detector that no l2 perturbation of the OOD images within the radius can make worse.

    That holds up to the bounds' alpha: a pair of images counts too favourably only where one of its two bounds fails,
    so the AUC is too high by at most the sum of the two tables' alpha in expectation.

    id_table, ood_table: tables of `oodcert.certify`, at one sigma, over the same bounds. The ID side takes its lower
    confidence bounds at radius 0, or at the same radius if two_sided, for an adversary who moves ID images as well;
    the OOD side takes its upper bounds at each radius. A sample without a certificate has an infinite bound, its worst
    value.

    Returns a DataFrame with a row per bound x radius: bound, radius, auc, aupr, fpr95.
    Raises InputError where the tables mix sigmas or detectors, lack the ID side's radius or hold NaN.
    """
    _check_alike(id_table, ood_table)
    rows = []
    for (bound, radius), ood in ood_table.groupby(["bound", "radius"], sort=True):
        other = radius if two_sided else 0.0
        id_lower = id_table.loc[(id_table["bound"] == bound) & (id_table["radius"] == other), "lower"]
        if id_lower.empty:
            raise InputError(
                f"The ID table has no rows of bound {bound!r} at radius {other:g}: certify it with {other:g} in radii."
            )
        rows.append({"bound": bound, "radius": radius, **ood_metrics(id_lower, ood["upper"], guaranteed=True)})
    return pd.DataFrame(rows)


def certified_rates(id_table, ood_table):
    """What the majority vote at a threshold (bound "vote" of `oodcert.certify`) must accept and reject.

    Returns a DataFrame with a row per radius: radius, tpr (share of the ID images that no perturbation within the
    radius can get rejected), fpr (share of the OOD images that some perturbation may get accepted; certified, at a
    threshold of 95 % TPR, this is FPR95); each image is judged with error probability alpha.
    Raises InputError where a table has no rows of the vote bound, or the tables mix thresholds, sigmas or detectors.
    """
    _check_alike(id_table, ood_table)
    votes = [table[table["bound"].str.startswith("vote")] for table in (id_table, ood_table)]
    if any(table.empty for table in votes):
        raise InputError("A table has no rows of the vote bound: certify it with bounds=['vote'] and a threshold.")
    thresholds = {*votes[0]["bound"], *votes[1]["bound"]}
    if len(thresholds) != 1:
        raise InputError(f"The two tables mix {' and '.join(sorted(thresholds))}: use one threshold for both.")
    tpr, fpr = (
        (table[side] >= 0.5).groupby(table["radius"]).mean()
        for table, side in zip(votes, ("lower", "upper"), strict=True)
    )
    return pd.DataFrame({"tpr": tpr, "fpr": fpr}).rename_axis("radius").reset_index()


def _check_alike(*tables):
    """Raises InputError unless the tables hold one sigma and, where they name them, one detector."""
    for key in ("sigma", "detector"):
        found = set().union(*(table[key].unique() for table in tables if key in table))
        if len(found) > 1:
            found = ", ".join(map(str, sorted(found)))
            raise InputError(f"The tables mix {key} = {found}: pass the rows of one {key} at a time.")
