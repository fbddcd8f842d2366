"""What must hold between guarantees, attacks and clean scores; a violation means that a number is wrong."""

import numpy as np
import pandas as pd

from oodcert.errors import InputError
from oodcert.metrics import METRICS, ood_metrics

ROUNDING = 1e-5  # the networks run in float32, the interval bounds in float64
SAMPLE = ["method", "set", "sample"]


def check_order(evidence):
    """Compares guarantees, attacks and clean scores, per sample and per cell of the tables.

    evidence: dict of DataFrames with clean, guarantee_linf, attack_linf, certify_l2 and attack_l2. Per sample:
    clean ≤ attacked ≤ guaranteed in the l-infinity ball; the attacked smoothed score's lower confidence bound ≤ the
    certificate's upper bound at the same sigma and radius; lower ≤ estimate ≤ upper at radius 0. Per method and OOD
    set: guaranteed ≤ attacked ≤ clean AUC and AUPR, and the reverse for FPR95. All up to ROUNDING.

    Returns a DataFrame with a row per check: check, compared, violations, slack (the smallest margin). An evaluation
    that no row matches counts as a violation.
    """
    linf = (
        evidence["clean"]
        .query("set != 'id'")
        .merge(evidence["attack_linf"], on=SAMPLE, validate="one_to_one")
        .merge(evidence["guarantee_linf"], on=[*SAMPLE, "epsilon"], validate="one_to_one")
    )
    checks = [
        _compare("clean score ≤ attacked score", linf["score"], linf["attacked"]),
        _compare("attacked score ≤ guaranteed bound", linf["attacked"], linf["upper"]),
    ]
    certified = evidence["certify_l2"]
    start = certified[certified["radius"] == 0]
    checks += [
        _compare("l2 lower bound ≤ estimate at radius 0", start["lower"], start["estimate"]),
        _compare("l2 estimate ≤ upper bound at radius 0", start["estimate"], start["upper"]),
    ]
    for bound, statistic in (("percentile", "median_lower"), ("gaussian", "mean_lower")):
        if bound in set(certified["bound"]):
            l2 = evidence["attack_l2"].merge(
                certified[certified["bound"] == bound], on=[*SAMPLE, "sigma", "radius"], validate="one_to_one"
            )
            checks.append(_compare(f"l2-attacked score ≤ {bound} bound", l2[statistic], l2["upper"]))
    checks += _cells(evidence["clean"], linf)
    return pd.DataFrame(checks)


def require(checks):
    """Raises InputError naming the failed checks, if any."""
    failed = checks[(checks["violations"] > 0) | (checks["compared"] == 0)]
    if len(failed):
        lines = "; ".join(
            f"{row.check}: {row.violations} of {row.compared} violate it, worst by {-row.slack:.3g}"
            for row in failed.itertuples()
        )
        raise InputError(
            f"The order of guarantees, attacks and clean scores is broken: {lines}. A bound or an attack is wrong, or "
            "evidence files of different runs are mixed; delete results/<profile>/evidence and run again, and report "
            "it if it persists."
        )


def _cells(clean, linf):
    """Checks of the metrics' order in every method x OOD set."""
    rows = []
    for (method, _), group in linf.groupby(["method", "set"]):
        id_scores = clean.loc[(clean["method"] == method) & (clean["set"] == "id"), "score"]
        guaranteed = group["upper"].mask(group["vacuous"], np.inf)
        rows.append([ood_metrics(id_scores, scores) for scores in (guaranteed, group["attacked"], group["score"])])
    checks = []
    for metric in METRICS:
        guaranteed, attacked, benign = (pd.Series([row[i][metric] for row in rows]) for i in range(3))
        if metric == "fpr95":
            guaranteed, attacked, benign = -guaranteed, -attacked, -benign
        checks.append(_compare(f"guaranteed no better than attacked, {metric}", guaranteed, attacked))
        checks.append(_compare(f"attacked no better than clean, {metric}", attacked, benign))
    return checks


def _compare(check, low, high):
    margin = high.to_numpy() - low.to_numpy()
    slack = float(margin.min()) if len(margin) else float("nan")
    return {
        "check": check,
        "compared": len(margin),
        "violations": int((~(margin >= -ROUNDING)).sum()),
        "slack": slack,
    }
