"""Sentences of a caption on methods that are not as robust as their training, or its lack, lets one expect."""

from __future__ import annotations

import pandas as pd

from oodcert.config.models import Config
from oodcert.evidence.store import Evidence
from oodcert.reporting.display_names import label
from oodcert.reporting.tables.sanity import radius_column, sanity_table
from oodcert.reporting.tables.values import ood_table

CLEAN_COUNTERPART = {"acet": "oe", "atom": "oe"}  # trained on attacked outliers -> trained on the same ones, clean
LARGE_FALL = 0.1  # of the plain classifier's AUC under attack: it needs no remark


def unexpected(evidence: Evidence, config: Config) -> list[str]:
    """Sentences on the methods whose adversarial AUC is not what one expects, with the numbers."""
    table = ood_table(evidence, config).set_index(["method", "set", "protocol"])["auc"]
    pairs = [pair for pair in CLEAN_COUNTERPART.items() if set(pair) <= set(config.methods)]
    sentences = [_no_better(table, config, *pair) for pair in pairs if _lead(table, *pair, "average") <= 0]
    if "plain" in config.methods and _fall(table, "plain") < LARGE_FALL:
        sentences.append(_little_harm(table, evidence, config))
    return sentences


def _no_better(table: pd.Series, config: Config, method: str, other: str) -> str:
    worst = min(config.data.ood, key=lambda name: _lead(table, method, other, name))

    def compared(name: str, protocol: str) -> str:
        return f"{100 * table[method, name, protocol]:.1f} against {100 * table[other, name, protocol]:.1f}"

    return (
        f"{label(method)}, though trained on attacked outliers, is no better under attack than {label(other)} "
        f"(adversarial AUC {compared('average', 'adversarial')}). It is behind most on {label(worst)} "
        f"({compared(worst, 'adversarial')}; clean, {compared(worst, 'clean')})."
    )


def _little_harm(table: pd.Series, evidence: Evidence, config: Config) -> str:
    epsilon = config.evaluation.epsilon
    larger = [radius for radius in config.evaluation.sanity.epsilons if epsilon < radius < 1]
    sanity = sanity_table(evidence, config).set_index("method").loc["plain"]
    beyond = [f"{100 * sanity[radius_column(radius)]:.1f} at ε = {radius:g}" for radius in larger]
    return (
        f"Plain loses only {100 * _fall(table, 'plain'):.1f} points of AUC to the attack, since ε = {epsilon:g} is "
        f"small on these images. On the images of the sanity runs its AUC is "
        f"{100 * sanity[radius_column(epsilon)]:.1f} at ε = {epsilon:g}"
        + (f" and {', '.join(beyond)}." if beyond else ".")
    )


def _lead(table: pd.Series, method: str, other: str, name: str) -> float:
    return table[method, name, "adversarial"] - table[other, name, "adversarial"]


def _fall(table: pd.Series, method: str) -> float:
    return table[method, "average", "clean"] - table[method, "average", "adversarial"]
