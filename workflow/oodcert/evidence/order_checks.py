"""What must hold between guarantees, attacks and clean scores; a violation means that a number is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypedDict

import numpy as np
import pandas as pd
from scipy.stats import binom

from oodcert.errors import InputError
from oodcert.evidence.store import Evidence
from oodcert.statistics.metrics import METRICS, guaranteed_metrics, ood_metrics

ROUNDING = 1e-5  # relative above 1: the networks run in float32, the interval bounds in float64
SAMPLE = ["method", "set", "sample"]
POINT = [*SAMPLE, "sigma", "radius"]
POOL = ["method", "sigma", "radius"]  # its images' noise is independent
# the statistic of the l2 attack that a bound is about
ATTACKED = {"percentile": "median", "cdf": "mean", "gaussian": "mean", "lipschitz": "mean"}
CHANCE = 1e-6  # of calling sound certificates broken, in one pool

Metrics = dict[str, float]
Cell = tuple[Metrics, Metrics, Metrics, Metrics]  # guaranteed, attacked for the guarantee, attacked, clean


class Check(TypedDict):
    """One comparison: how many pairs were compared, how many violate it, and how closely it holds."""

    check: str
    compared: int
    violations: int
    tolerated: int  # violations that a certificate's alpha explains; they are not among `violations`
    slack: float  # the smallest margin


def check_order(evidence: Evidence) -> pd.DataFrame:
    """Compares guarantees, attacks and clean scores, per image and per cell of the tables.

    Per image, in the l-infinity ball: clean score ≤ attacked score ≤ guaranteed bound. On a linear score the attack
    gains at least 99 % of what is possible. Per image, in l2 balls: the smoothed score ≤ the attacked one. The lower
    confidence bound of the attacked score ≤ the certificate's upper bound at the same sigma and radius.

    A certificate fails with probability alpha. Of N certificates at one method, sigma and radius (all sets together),
    more than the (1 - CHANCE)-quantile of Binomial(N, alpha) fail only if the certificate is unsound. Up to that
    number, violations of that last comparison are tolerated.

    Per method and OOD set (and sigma and radius): guaranteed ≤ attacked ≤ clean AUC and AUPR, and the reverse for
    FPR95. The scores of the l2 attack are estimates, so their lower confidence bounds are compared with the guarantee.

    All comparisons hold up to ROUNDING.

    Args:
        evidence: rows of clean, guarantee_linf, attack_linf, attack_linear, certify_l2 and attack_l2.

    Returns:
        A row per comparison, with the columns of Check. An image that one side lacks counts as a violation.
    """
    clean, attack, certified = evidence["clean"], evidence["attack_l2"], evidence["certify_l2"]
    linear = evidence["attack_linear"]
    linf = (
        clean[~clean["set"].isin(["id", "id_more"])]
        .merge(evidence["attack_linf"], on=SAMPLE, how="outer", validate="one_to_one")
        .merge(evidence["guarantee_linf"], on=[*SAMPLE, "epsilon"], how="outer", validate="one_to_one")
    )
    start = certified[certified["radius"] == 0]
    before = attack[attack["radius"] == 0].drop(columns="radius")
    both = attack.merge(before, on=[*SAMPLE, "sigma"], how="outer", suffixes=("", "_before"), validate="many_to_one")
    checks = [
        compare("clean score ≤ attacked score", linf["score"], linf["attacked"]),
        compare("attacked score ≤ guaranteed bound", linf["attacked"], linf["upper"]),
        compare("l2 lower bound ≤ estimate at radius 0", start["lower"], start["estimate"]),
        compare("l2 estimate ≤ upper bound at radius 0", start["estimate"], start["upper"]),
        compare(
            "99 % of a linear score's greatest gain ≤ attacked gain",
            0.99 * (linear["maximum"] - linear["clean"]),
            linear["attacked"] - linear["clean"],
        ),
        compare("smoothed score ≤ l2-attacked median", both["median_before"], both["median"]),
        compare("smoothed score ≤ l2-attacked mean", both["mean_before"], both["mean"]),
        *_ordered("l∞", _linf_cells(clean, linf)),
        *_l2_checks(certified, attack),
    ]
    return pd.DataFrame(checks)


def require(checks: pd.DataFrame) -> None:
    """Stops a run whose evidence is out of order.

    Args:
        checks: as of check_order.

    Raises:
        InputError: naming the comparisons that failed, or that compared nothing.
    """
    failed = checks[(checks["violations"] > 0) | (checks["compared"] == 0)]
    if len(failed):
        lines = "; ".join(
            f"{row.check}: {row.violations} of {row.compared} violate it or lack one side (smallest margin "
            f"{row.slack:.3g})"
            for row in failed.itertuples()
        )
        raise InputError(
            f"The order of guarantees, attacks and clean scores is broken: {lines}. A bound or an attack is wrong, or "
            "evidence files of different runs are mixed; delete results/<profile>/evidence and run again, and report "
            "it if it persists."
        )


def _l2_checks(certified: pd.DataFrame, attack: pd.DataFrame) -> list[Check]:
    """The checks of every l2 bound against the attack on the statistic that it bounds."""
    checks: list[Check] = []
    attacked_points = (
        (certified["set"] != "id")
        & certified["sigma"].isin(attack["sigma"])
        & certified["radius"].isin(attack["radius"])
    )
    for bound, statistic in ATTACKED.items():
        if bound in set(certified["bound"]):
            rows = certified[certified["bound"] == bound]
            # every method has the percentile bound; a method whose score has no range has no other
            attacks = attack if bound == "percentile" else attack[attack["method"].isin(rows["method"].unique())]
            lowest = attacks[[*POINT, f"{statistic}_lower"]].rename(columns={f"{statistic}_lower": "attacked"})
            pairs = lowest.merge(
                rows.loc[attacked_points, [*POINT, "upper", "alpha"]], on=POINT, how="outer", validate="one_to_one"
            )
            checks.append(_beyond_alpha(f"l2-attacked score ≤ {bound} bound", pairs))
            checks += _ordered(f"l2 {bound}", _l2_cells(rows, attacks, statistic))
    return checks


def _linf_cells(clean: pd.DataFrame, linf: pd.DataFrame) -> Iterator[Cell]:
    """The Cell of every method x OOD set."""
    for (method, _), group in linf.groupby(["method", "set"]):
        id_scores = clean.loc[(clean["method"] == method) & (clean["set"] == "id"), "score"]
        guaranteed = group["upper"].mask(group["vacuous"] == True, np.inf)  # noqa: E712, NaN where a row is missing
        attacked = _metrics(id_scores, group["attacked"])
        yield _metrics(id_scores, guaranteed, True), attacked, attacked, _metrics(id_scores, group["score"])


def _l2_cells(certified: pd.DataFrame, attack: pd.DataFrame, statistic: str) -> Iterator[Cell]:
    """The Cell of every method x OOD set x sigma x radius of the l2 attack."""
    for (method, name, sigma), group in attack.groupby(["method", "set", "sigma"]):
        rows = certified[(certified["method"] == method) & (certified["sigma"] == sigma)]
        id_rows, ood_rows = rows[rows["set"] == "id"], rows[rows["set"] == name]
        id_scores = id_rows.loc[id_rows["radius"] == 0, "estimate"]
        metrics = guaranteed_metrics(id_rows, ood_rows, confidence=None)  # the sharpest check of the bounds
        guaranteed = metrics.set_index("radius")[list(METRICS)].to_dict("index")
        clean = _metrics(id_scores, group.loc[group["radius"] == 0, statistic])
        for radius, attacked in group.groupby("radius"):
            low, estimate = (_metrics(id_scores, attacked[column]) for column in (f"{statistic}_lower", statistic))
            yield guaranteed.get(radius, dict.fromkeys(METRICS, np.nan)), low, estimate, clean


def _metrics(id_scores: pd.Series, ood_scores: pd.Series, guaranteed: bool = False) -> Metrics:
    if len(ood_scores) == 0 or ood_scores.isna().any():
        return dict.fromkeys(METRICS, np.nan)
    return ood_metrics(id_scores, ood_scores, guaranteed)


def _ordered(where: str, cells: Iterable[Cell]) -> list[Check]:
    """The checks that each cell's first metrics are no better than its second, and its third than its fourth."""
    cells = list(cells)
    checks = []
    for metric in METRICS:
        sign = -1 if metric == "fpr95" else 1
        guaranteed, for_guarantee, attacked, clean = (
            pd.Series([sign * cell[place][metric] for cell in cells], dtype=float) for place in range(4)
        )
        checks.append(compare(f"{where}: guaranteed no better than attacked, {metric}", guaranteed, for_guarantee))
        checks.append(compare(f"{where}: attacked no better than clean, {metric}", attacked, clean))
    return checks


def compare(check: str, low: pd.Series, high: pd.Series) -> Check:
    """Compares low ≤ high, pair by pair, up to ROUNDING.

    Args:
        check: what is compared, in words.
        low: the values that must be no higher.
        high: the others, in the same order.

    Returns:
        The Check. A pair that lacks a value is a violation.
    """
    margin = high - low
    violations = int((~(margin >= -_rounding(high))).sum())
    return {
        "check": check,
        "compared": len(margin),
        "violations": violations,
        "tolerated": 0,
        "slack": margin.min(),
    }


def _rounding(scores: pd.Series) -> pd.Series:
    return ROUNDING * scores.abs().clip(lower=1)


def _beyond_alpha(check: str, rows: pd.DataFrame) -> Check:
    """The check attacked ≤ upper, pool by pool, less the violations that the certificates' alpha explains."""
    margin, tolerated = rows["upper"] - rows["attacked"], 0
    for _, pool in rows.assign(broken=margin < -_rounding(rows["upper"])).groupby(POOL):
        tolerated += int(min(pool["broken"].sum(), binom.ppf(1 - CHANCE, len(pool), pool["alpha"].max())))
    result = compare(check, rows["attacked"], rows["upper"])
    return {**result, "violations": result["violations"] - tolerated, "tolerated": tolerated}
