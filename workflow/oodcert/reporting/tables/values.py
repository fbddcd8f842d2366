"""The numbers of every table: functions of (evidence, config) that return one tidy DataFrame.

Rows come in the order of the configuration (`methods`, `data.ood`), and then the set "average". All values are
fractions in [0, 1]. Radii are in the pixel scale [0, 1]. Every function raises InputError where a method, set or
setting of the configuration has no evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from oodcert.config.models import Config
from oodcert.errors import InputError
from oodcert.evidence.selection import rows_at, rows_of_method, rows_of_set
from oodcert.evidence.store import Evidence
from oodcert.reporting.tables.one_pass import ATTACK, attacked_one_pass_table, one_pass_table
from oodcert.reporting.tables.sanity import sanity_table
from oodcert.statistics.failing_bounds import CONFIDENCE
from oodcert.statistics.metrics import METRICS, guaranteed_metrics, ood_metrics

PROTOCOLS = ("clean", "guaranteed", "adversarial")
WORST_CASE = "worst-case"  # of AutoAttack's attacks, image by image
INGREDIENTS = ("auc", "aupr", "1-fpr95")


def id_table(evidence: Evidence, config: Config) -> pd.DataFrame:
    """A row per method: clean, adversarial (per epsilon) and certified (per sigma and radius) ID accuracy.

    Args:
        evidence: evaluation -> its rows.
        config: the run's.

    Returns:
        The table; accuracies are in [0, 1].
    """
    attack, certify = config.evaluation.attack_id, config.evaluation.certify_id
    rows = []
    for method in config.methods:
        clean = rows_of_method(evidence, "clean", method)
        clean = clean[clean["set"].isin(["id", "id_more"])]
        attacked = rows_of_method(evidence, "attack_id", method)
        certified = rows_of_method(evidence, "certify_id", method)
        row = {"method": method, "images": len(clean)}  # of the clean accuracy
        row["clean_accuracy"] = (clean["prediction"] == clean["label"]).mean()
        for epsilon in attack.epsilons:
            worst = rows_at(rows_at(attacked, "attack_id", "epsilon", epsilon), "attack_id", "attack", WORST_CASE)
            row[adversarial_column(epsilon)] = worst["correct"].mean()
        for sigma in certify.sigmas:
            smoothed = rows_at(certified, "certify_id", "sigma", sigma)
            counted = smoothed["correct"] & (smoothed["prediction"] >= 0)
            for radius in certify.radii:
                row[certified_column(sigma, radius)] = (counted & (smoothed["radius"] >= radius)).mean()
        rows.append(row)
    return pd.DataFrame(rows)


def autoattack_table(evidence: Evidence, config: Config) -> pd.DataFrame:
    """A row per method x epsilon x attack of AutoAttack, the worst case over them last: accuracy."""
    rows = []
    for method in config.methods:
        attacked = rows_of_method(evidence, "attack_id", method)
        for epsilon in config.evaluation.attack_id.epsilons:
            for name, outcomes in rows_at(attacked, "attack_id", "epsilon", epsilon).groupby("attack", sort=False):
                accuracy = outcomes["correct"].mean()
                rows.append({"method": method, "epsilon": epsilon, "attack": name, "accuracy": accuracy})
    return pd.DataFrame(rows)


def adversarial_column(epsilon: float) -> str:
    """The column of the ID accuracy under AutoAttack at this l-infinity radius."""
    return f"adversarial_accuracy_linf_{epsilon:g}"


def certified_column(sigma: float, radius: float) -> str:
    """The column of the ID accuracy certified at this sigma and l2 radius."""
    return f"certified_accuracy_sigma_{sigma:g}_l2_{radius:g}"


def ood_table(evidence: Evidence, config: Config) -> pd.DataFrame:
    """A row per method x set x protocol (clean, guaranteed, adversarial): auc, aupr, fpr95, and reliable.

    The ID scores are the clean ones in every protocol. A vacuous bound counts as the worst value, above every ID score,
    even where a clean ID score is rounded to 1. Unavailable sets (data.unavailable) come last, with NaN. reliable:
    whether the method's attack passes the sanity checks.

    Args:
        evidence: evaluation -> its rows.
        config: the run's.

    Returns:
        The table; metrics are in [0, 1].
    """
    epsilon, rows = config.evaluation.epsilon, []
    for method in config.methods:
        clean = rows_of_method(evidence, "clean", method)
        bounds = rows_at(rows_of_method(evidence, "guarantee_linf", method), "guarantee_linf", "epsilon", epsilon)
        attacks = rows_at(rows_of_method(evidence, "attack_linf", method), "attack_linf", "epsilon", epsilon)
        id_scores = rows_of_set(clean, "clean", "id")["score"]
        for name in config.data.ood:
            bound = rows_of_set(bounds, "guarantee_linf", name)
            scores = {
                "clean": rows_of_set(clean, "clean", name)["score"],
                "guaranteed": bound["upper"].mask(bound["vacuous"], np.inf),
                "adversarial": rows_of_set(attacks, "attack_linf", name)["attacked"],
            }
            for protocol in PROTOCOLS:
                what, worst = f"{protocol} scores of {method} on {name}", protocol == "guaranteed"
                values = _metrics(what, id_scores, scores[protocol], worst)
                rows.append({"method": method, "set": name, "protocol": protocol, **values})
    table = with_all_sets(pd.DataFrame(rows), config)
    return table.merge(sanity_table(evidence, config)[["method", "reliable"]], on="method", how="left")


def with_all_sets(table: pd.DataFrame, config: Config) -> pd.DataFrame:
    """Rows by method, set and protocol; after them the average over the sets, and the unavailable sets, with NaN."""
    table = _with_average(table, ["method", "protocol"])
    lacking = [*product(config.methods, config.data.unavailable, PROTOCOLS)]
    if lacking:
        table = pd.concat([table, pd.DataFrame(lacking, columns=["method", "set", "protocol"])], ignore_index=True)
    return table


def l2_table(evidence: Evidence, config: Config) -> pd.DataFrame:
    """A row per method x sigma x bound x radius x set: auc, aupr, fpr95 of both ends of the l2 bracket.

    The guarantees come first, with their confidence, those of the detector of one pass a query last. Rows of the bounds
    "attack" and "one pass attack", at the attack's sigmas, are what an attack achieved against the smoothed and the
    one-pass detector, and no guarantee: their confidence is NaN.

    Args:
        evidence: evaluation -> its rows.
        config: the run's.

    Returns:
        The table; metrics are in [0, 1].
    """
    guaranteed, one_pass = guaranteed_l2_table(evidence, config), one_pass_table(evidence, config)
    one_pass = _with_average(one_pass, ["method", "sigma", "bound", "radius"], (*METRICS, "confidence"))
    attacked = attacked_l2_table(evidence, config).assign(bound="attack")
    single = attacked_one_pass_table(evidence, config).drop(columns="images").assign(bound=ATTACK)
    single = _with_average(single, ["method", "sigma", "bound", "radius"])
    return pd.concat([one for one in (guaranteed, one_pass, attacked, single) if len(one)], ignore_index=True)


def l2_metric(config: Config) -> str:
    """The column of the l2 table that people read: auc, but fpr95 with adaptive sampling, which decides that alone."""
    return "fpr95" if config.evaluation.certify_l2.sampling == "adaptive" else "auc"


def guaranteed_l2_table(evidence: Evidence, config: Config, confidence: float | None = CONFIDENCE) -> pd.DataFrame:
    """A row per method x sigma x bound x radius x set: guaranteed auc, aupr, fpr95, and confidence.

    The metrics of all sets at one method, sigma, bound and radius, and so their average, hold at once with the
    confidence, over the noise draws (see oodcert.statistics.metrics.guaranteed_metrics).

    A method with an unbounded score has no rows of the bounds that need a range. With adaptive sampling, auc and aupr
    are guaranteed too, but they may be far lower than those of all draws.

    Args:
        evidence: evaluation -> its rows.
        config: the run's.
        confidence: of the metrics; None: none, the bounds hold per image, and the column is per_image_alpha.

    Returns:
        The table; metrics are in [0, 1].
    """
    settings, frames = config.evaluation.certify_l2, []
    for method in config.methods:
        certified = rows_of_method(evidence, "certify_l2", method)
        for sigma, bound in product(settings.sigmas, config.methods[method].admitted_bounds(settings.bounds)):
            rows = rows_at(rows_at(certified, "certify_l2", "sigma", sigma), "certify_l2", "bound", bound)
            id_rows = rows_of_set(rows, "certify_l2", "id")
            for name in config.data.ood:
                ood_rows = rows_of_set(rows, "certify_l2", name)
                values = guaranteed_metrics(id_rows, ood_rows, confidence=confidence, sets=len(config.data.ood))
                frames.append(values.assign(method=method, sigma=sigma, set=name))
    statement = "per_image_alpha" if confidence is None else "confidence"
    columns = ["method", "sigma", "bound", "radius", "set", *METRICS, statement]
    return _with_average(pd.concat(frames, ignore_index=True)[columns], columns[:4], (*METRICS, statement))


def attacked_l2_table(evidence: Evidence, config: Config) -> pd.DataFrame:
    """A row per method x sigma x radius x set: auc, aupr, fpr95 under the l2 attack on the smoothed score.

    This is the other end of the bracket around the percentile guarantee, at the attack's sigmas. The ID scores are the
    estimates of the percentile certificate at radius 0. The OOD scores are the smoothed ones (`median`) of the attacked
    images.

    Args:
        evidence: evaluation -> its rows.
        config: the run's.

    Returns:
        The table; metrics are in [0, 1].
    """
    rows = []
    for method, sigma in product(config.methods, config.evaluation.attack_l2.sigmas):
        smoothed = rows_at(rows_of_method(evidence, "certify_l2", method), "certify_l2", "sigma", sigma)
        smoothed = rows_at(rows_at(smoothed, "certify_l2", "bound", "percentile"), "certify_l2", "radius", 0.0)
        id_scores = rows_of_set(smoothed, "certify_l2", "id")["estimate"]
        attacks = rows_at(rows_of_method(evidence, "attack_l2", method), "attack_l2", "sigma", sigma)
        for name in config.data.ood:
            for radius, ood in rows_of_set(attacks, "attack_l2", name).groupby("radius"):
                values = _metrics(f"l2-attacked scores of {method} on {name}", id_scores, ood["median"])
                rows.append({"method": method, "sigma": sigma, "radius": radius, "set": name, **values})
    return _with_average(pd.DataFrame(rows), ["method", "sigma", "radius"])


def headline_table(evidence: Evidence, config: Config) -> pd.DataFrame:
    """A row per method: the nine ingredients (averages over the OOD sets), their `mean`, its `lead`, and `reliable`.

    lead: this method's mean minus the best mean among the other methods; NaN if there is no other method.

    Args:
        evidence: evaluation -> its rows.
        config: the run's.

    Returns:
        The table; its values are in [0, 1], lead in [-1, 1].
    """
    return headline_of(ood_table(evidence, config), config)


def headline_of(table: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The headline table of an ood table."""
    reliable = table.groupby("method")["reliable"].first()
    averages = table.query("set == 'average'").assign(**{"1-fpr95": lambda t: 1 - t["fpr95"]})
    wide = averages.pivot(index="method", columns="protocol", values=list(INGREDIENTS)).loc[[*config.methods]]
    table = pd.DataFrame({f"{p}_{i}": wide[i, p] for p in PROTOCOLS for i in INGREDIENTS})
    table["mean"] = table.mean(axis=1)
    table["lead"] = [mean - table["mean"].drop(method).max() for method, mean in table["mean"].items()]
    table["reliable"] = reliable
    return table.rename_axis("method").reset_index()


def _metrics(what: str, id_scores: pd.Series, ood_scores: pd.Series, guaranteed: bool = False) -> dict[str, float]:
    try:
        return ood_metrics(id_scores, ood_scores, guaranteed)
    except InputError as error:
        raise InputError(f"No metrics for the {what}. {error}") from error


def _with_average(table: pd.DataFrame, keys: Sequence[str], averaged: Sequence[str] = METRICS) -> pd.DataFrame:
    """Appends the set "average": the mean over the sets of every metric, for each combination of the keys."""
    average = table.groupby(keys, sort=False, as_index=False)[list(averaged)].mean().assign(set="average")
    return pd.concat([table, average[table.columns]], ignore_index=True)
