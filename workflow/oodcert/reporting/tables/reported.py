"""Values that papers report beside a run's, always with what differs in setting."""

from __future__ import annotations

import numpy as np
import pandas as pd

from oodcert.config.models import Config
from oodcert.evidence.store import Evidence
from oodcert.reporting.display_names import label
from oodcert.reporting.reported_values import reported
from oodcert.reporting.tables.setting import setting_of
from oodcert.reporting.tables.values import adversarial_column, certified_column, headline_table, id_table, ood_table

DETECTION = {  # metric of reported.csv -> protocol and metric of ood_table
    "auc": ("clean", "auc"),
    "fpr95": ("clean", "fpr95"),
    "guaranteed_auc": ("guaranteed", "auc"),
    "adversarial_auc": ("adversarial", "auc"),
    "adversarial_fpr95": ("adversarial", "fpr95"),
}
COPIED = ("paper", "table", "id_set", "ood_set", "method", "metric", "radius", "sigma")
COLUMNS = [*COPIED, "reported", "measured", "difference", "differences", "setting"]


def reported_table(evidence: Evidence, config: Config) -> pd.DataFrame:
    """A row per reported value whose method and metric the run has too, in the order of reported.csv.

    Where the run lacks an OOD set, or the reported value is an average, the run's own average is measured.

    Args:
        evidence: evaluation -> its rows.
        config: the run's.

    Returns:
        A DataFrame with COLUMNS: those of COPIED (ood_set is "–" for values on ID images); reported, measured and
        difference, in % or points; differences, the number of settings known to differ (ID set, OOD sets, radius);
        setting, which these are, and then what the measured value rests on.
    """
    ood = ood_table(evidence, config).set_index(["method", "set", "protocol"])
    accuracies = id_table(evidence, config).set_index("method")
    increase = _increase(evidence, config)
    rows = []
    for _, row in reported().iterrows():
        if row["method"] not in config.methods:
            continue
        measured: float | None
        if row["metric"] in DETECTION:
            measured, differing = _detection(row, ood, config)
        elif row["metric"] == "headline_increase":
            measured, differing = increase, [_average(config, "the paper's")]
        else:
            measured, differing = _on_id_images(row, accuracies, config)
        if measured is None:
            continue
        if row["id_set"] != config.data.id:
            differing = [f"{label(config.data.id)} instead of {row['id_set_reported']}", *differing]
        rows.append(
            {
                **row[list(COPIED)],
                "ood_set": row["ood_set"] or "–",
                "reported": row["value"],
                "measured": measured,
                "difference": measured - row["value"],
                "differences": len(differing),
                "setting": "; ".join([*differing, _here(row, accuracies, config)]),
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _detection(row: pd.Series, ood: pd.DataFrame, config: Config) -> tuple[float, list[str]]:
    """The value in % on the same OOD set, or else on the average, and what differs."""
    protocol, metric = DETECTION[row["metric"]]
    same = row["ood_set"] in config.data.ood
    measured = 100 * ood.loc[(row["method"], row["ood_set"] if same else "average", protocol), metric]
    reported_set = "the paper's" if row["ood_set"] == "average" else row["ood_set_reported"]
    differing = [] if same else [_average(config, reported_set)]
    epsilon = config.evaluation.epsilon
    if protocol != "clean" and not np.isclose(row["radius"], epsilon, rtol=1e-3):
        given = "one not given here" if np.isnan(row["radius"]) else f"{row['radius']:g}"
        differing.append(f"ε = {epsilon:g} instead of {given}")
    return measured, differing


def _on_id_images(row: pd.Series, accuracies: pd.DataFrame, config: Config) -> tuple[float | None, list[str]]:
    """An accuracy in % and what differs; None if the run does not measure it. σ not given: the run's best."""
    values, evaluation = accuracies.loc[row["method"]], config.evaluation
    if row["metric"] == "accuracy":
        return 100 * values["clean_accuracy"], []
    if row["metric"] == "adversarial_accuracy" and row["norm"] == "linf":
        same = [radius for radius in evaluation.attack_id.epsilons if np.isclose(radius, row["radius"], rtol=1e-3)]
        return (100 * values[adversarial_column(same[0])], []) if same else (None, [])
    settings = evaluation.certify_id
    if row["metric"] == "certified_accuracy" and row["radius"] in settings.radii:
        sigmas = settings.sigmas if np.isnan(row["sigma"]) else {row["sigma"]} & {*settings.sigmas}
        shares = {sigma: values[certified_column(sigma, row["radius"])] for sigma in sigmas}
        if shares:
            best = max(shares, key=shares.__getitem__)
            differing = [f"σ = {best:g} instead of one not given here"] if np.isnan(row["sigma"]) else []
            return 100 * shares[best], differing
    return None, []


def _increase(evidence: Evidence, config: Config) -> float | None:
    """DISTRO's mean of the nine metrics over that of the best method without a denoiser, in %; None without either."""
    means = headline_table(evidence, config).set_index("method")["mean"]
    earlier = [method for method in means.index if not config.methods[method].is_randomised]
    if "distro" not in means or not earlier:
        return None
    best = means[earlier].max()
    return 100 * (means["distro"] - best) / best


def _average(config: Config, instead: str) -> str:
    return f"average of {len(config.data.ood)} OOD sets instead of {instead}"


def _here(row: pd.Series, accuracies: pd.DataFrame, config: Config) -> str:
    """What the measured value rests on."""
    here = setting_of(config, row["method"])
    epochs = "not trained here" if here.epochs is None else f"{here.epochs} epochs"
    images = accuracies.loc[row["method"], "images"] if row["metric"] == "accuracy" else here.images
    texts = [label(here.network), epochs, f"{images} images"]
    if row["metric"].startswith("adversarial_accuracy"):
        budget = config.evaluation.attack_id.budget_of(config.methods[row["method"]])
        texts.append(f"{budget.iterations} AutoAttack iterations")
    elif row["metric"].startswith("adversarial"):
        texts.append(f"{config.evaluation.attack_linf.apgd.iterations} APGD iterations")
    return f"here {', '.join(texts)}"
