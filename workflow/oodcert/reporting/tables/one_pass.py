"""The detector that takes one noisy pass a query: what is certified of it, and what an attack achieves against it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import binom

from oodcert.certification.roc_bounds import Statement, certified_metrics, certified_threshold, roc_curve_bounds
from oodcert.config.models import Config, OnePassSettings
from oodcert.errors import InputError
from oodcert.evidence.order_checks import CHANCE, Check, compare
from oodcert.evidence.selection import rows_at, rows_of_method, rows_of_set
from oodcert.evidence.store import Evidence
from oodcert.statistics.metrics import METRICS, ood_metrics

BOUND, ATTACK = "one pass", "one pass attack"
CELL = ["method", "sigma", "radius", "set"]


def one_pass_table(evidence: Evidence, config: Config) -> pd.DataFrame:
    """A row per method x sigma x radius x OOD set: certified auc, aupr and fpr95 of the detector of one pass a query.

    The metrics of all sets at one method, sigma and radius, and so their average, hold at once with the confidence.

    Args:
        evidence: evaluation -> its rows.
        config: the run's.

    Returns:
        The table, without rows where the config has no settings for it. Metrics are in [0, 1].
    """
    columns = ["method", "sigma", "bound", "radius", "set", *METRICS, "confidence"]
    settings, radii = config.evaluation.one_pass, sorted(config.evaluation.certify_l2.radii)
    if settings is None:
        return pd.DataFrame(columns=columns)
    statement, rows = statement_of(config, settings), []
    for method, sigma in product(config.methods, settings.sigmas):
        drawn = rows_at(rows_of_method(evidence, "one_pass", method), "one_pass", "sigma", sigma)
        known = draws_of(rows_of_set(drawn, "one_pass", "id"))
        for name in config.data.ood:
            strange = draws_of(rows_of_set(drawn, "one_pass", name))
            curve = roc_curve_bounds(known, strange, statement)
            for radius in radii:
                values = certified_metrics(known, strange, curve, radius / sigma, statement)
                rows.append({"method": method, "sigma": sigma, "bound": BOUND, "radius": radius, "set": name, **values})
    return pd.DataFrame(rows).assign(confidence=settings.confidence)[columns]


def attacked_one_pass_table(evidence: Evidence, config: Config) -> pd.DataFrame:
    """A row per method x sigma x radius x OOD set: auc, aupr and fpr95 of the one-pass detector under the l2 attack.

    This is the other end of the bracket around its certificate, at the sigmas that the attack has too. Every attacked
    image has one score under fresh noise. The ID scores are all draws of the ID images. The FPR95 is at the threshold
    of the certificate.

    Args:
        evidence: evaluation -> its rows.
        config: the run's.

    Returns:
        The table, without rows where the config has no settings for it. Metrics are in [0, 1].
    """
    settings, attack = config.evaluation.one_pass, config.evaluation.attack_l2
    rows = []
    sigmas = [sigma for sigma in settings.sigmas if np.isclose(sigma, attack.sigmas).any()] if settings else []
    for method, sigma in product(config.methods, sigmas):
        assert settings is not None, "it has a sigma"
        drawn = rows_at(rows_of_method(evidence, "one_pass", method), "one_pass", "sigma", sigma)
        known = draws_of(rows_of_set(drawn, "one_pass", "id"))
        threshold = certified_threshold(known, 0.0, statement_of(config, settings))
        attacks = rows_at(rows_of_method(evidence, "attack_l2", method), "attack_l2", "sigma", sigma)
        if "one_pass_score" not in attacks:
            raise InputError(
                f"The attack_l2 evidence of method {method!r} has no column one_pass_score: run that evaluation again."
            )
        for name in config.data.ood:
            for radius, one in rows_of_set(attacks, "attack_l2", name).groupby("radius"):
                scores = one["one_pass_score"].to_numpy()
                values = ood_metrics(known.ravel(), np.repeat(scores, settings.draws)) | {
                    "fpr95": float(np.mean(scores >= threshold))
                }
                cell = {"method": method, "sigma": sigma, "radius": radius, "set": name}
                rows.append({**cell, **values, "images": len(scores)})
    return pd.DataFrame(rows, columns=[*CELL, *METRICS, "images"])


def one_pass_check(evidence: Evidence, config: Config) -> list[Check]:
    """Whether more attacked images are accepted in one pass than the certified FPR95 can explain.

    Of M images, each accepted with a probability of its own and these at most p on average, more than the
    (1 - CHANCE)-quantile of Binomial(M, p) are accepted with a chance of at most CHANCE (Hoeffding 1956,
    https://doi.org/10.1214/aoms/1177728178: there the binomial tail is the largest).

    Args:
        evidence: evaluation -> its rows.
        config: the run's.

    Returns:
        The check, of every method, sigma, radius and OOD set; none where the config has no settings for it.
    """
    attacked = attacked_one_pass_table(evidence, config)
    if attacked.empty:
        return []
    both = one_pass_table(evidence, config).merge(attacked, on=CELL, suffixes=("_certified", ""))
    most = pd.Series(binom.ppf(1 - CHANCE, both["images"], both["fpr95_certified"]))
    accepted = (both["fpr95"] * both["images"]).round()
    return [compare("attacked images accepted in one pass ≤ what the certified FPR95 allows", accepted, most)]


def statement_of(config: Config, settings: OnePassSettings) -> Statement:
    """What is certified of each OOD set, so that all sets hold at once with the confidence."""
    return Statement(1 - (1 - settings.confidence) / len(config.data.ood))


def draws_of(rows: pd.DataFrame) -> np.ndarray:
    """Scores [N, m] of a set's images, from their evidence at one sigma."""
    return rows.pivot(index="sample", columns="draw", values="score").to_numpy()
