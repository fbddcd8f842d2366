"""The certified ROC metrics of the detector that takes one noisy pass a query."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from oodcert.certification.roc_bounds import Statement, certified_metrics, roc_curve_bounds
from oodcert.config.models import Config
from oodcert.evidence.selection import rows_at, rows_of_method, rows_of_set
from oodcert.evidence.store import Evidence
from oodcert.statistics.metrics import METRICS

BOUND = "one pass"


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
    statement, rows = Statement(1 - (1 - settings.confidence) / len(config.data.ood)), []
    for method, sigma in product(config.methods, settings.sigmas):
        drawn = rows_at(rows_of_method(evidence, "one_pass", method), "one_pass", "sigma", sigma)
        known = _draws(rows_of_set(drawn, "one_pass", "id"))
        for name in config.data.ood:
            strange = _draws(rows_of_set(drawn, "one_pass", name))
            curve = roc_curve_bounds(known, strange, statement)
            for radius in radii:
                values = certified_metrics(known, strange, curve, radius / sigma, statement)
                rows.append({"method": method, "sigma": sigma, "bound": BOUND, "radius": radius, "set": name, **values})
    return pd.DataFrame(rows).assign(confidence=settings.confidence)[columns]


def _draws(rows: pd.DataFrame) -> np.ndarray:
    """Scores [N, m] of a set's images."""
    return rows.pivot(index="sample", columns="draw", values="score").to_numpy()
