"""Published numbers beside a run's, always with what differs in setting."""

import numpy as np
import pandas as pd

from oodcert.config.method_specs import is_randomised
from oodcert.reporting.display_names import label
from oodcert.reporting.reported_values import reported
from oodcert.reporting.tables.setting import setting
from oodcert.reporting.tables.values import adversarial_column, certified_column, headline_table, id_table, ood_table

DETECTION = {  # metric of reported.csv -> protocol and metric of ood_table
    "auc": ("clean", "auc"),
    "fpr95": ("clean", "fpr95"),
    "guaranteed_auc": ("guaranteed", "auc"),
    "adversarial_auc": ("adversarial", "auc"),
    "adversarial_fpr95": ("adversarial", "fpr95"),
}
COPIED = ("paper", "table", "id_set", "ood_set", "method", "metric", "radius", "sigma")


def reported_table(evidence, config):
    """A row per published number that the run has a counterpart of, by method and metric, in the order of reported.csv.

    columns: COPIED; reported, measured, difference in % or points; differences, the number of settings known to differ
    (ID set, OOD sets, radius), and setting: which these are, then what the measured number rests on. ood_set is "–" of
    numbers on ID images. Where the run lacks an OOD set, or the number is an average, its own average is measured.
    """
    ood = ood_table(evidence, config).set_index(["method", "set", "protocol"])
    inside = id_table(evidence, config).set_index("method")
    increase = _increase(evidence, config)
    rows = []
    for _, row in reported().iterrows():
        if row["method"] not in config["methods"]:
            continue
        if row["metric"] in DETECTION:
            measured, differing = _detection(row, ood, config)
        elif row["metric"] == "headline_increase":
            measured, differing = increase, [_average(config, "the paper's")]
        else:
            measured, differing = _on_id_images(row, inside, config)
        if measured is None:
            continue
        if row["id_set"] != config["data"]["id"]:
            differing = [f"{label(config['data']['id'])} instead of {row['id_set_reported']}", *differing]
        rows.append(
            {
                **row[list(COPIED)],
                "ood_set": row["ood_set"] or "–",
                "reported": row["value"],
                "measured": measured,
                "difference": measured - row["value"],
                "differences": len(differing),
                "setting": "; ".join([*differing, _here(row, inside, config)]),
            }
        )
    columns = [*COPIED, "reported", "measured", "difference", "differences", "setting"]
    return pd.DataFrame(rows, columns=columns)


def _detection(row, ood, config):
    """The value in % of the same OOD set, or else of the average, and what differs."""
    protocol, metric = DETECTION[row["metric"]]
    same = row["ood_set"] in config["data"]["ood"]
    measured = 100 * ood.loc[(row["method"], row["ood_set"] if same else "average", protocol), metric]
    reported_set = "the paper's" if row["ood_set"] == "average" else row["ood_set_reported"]
    differing = [] if same else [_average(config, reported_set)]
    epsilon = config["evaluation"]["epsilon"]
    if protocol != "clean" and not np.isclose(row["radius"], epsilon, rtol=1e-3):
        given = "one not given here" if np.isnan(row["radius"]) else f"{row['radius']:g}"
        differing.append(f"ε = {epsilon:g} instead of {given}")
    return measured, differing


def _on_id_images(row, inside, config):
    """An accuracy in % and what differs; None where the run doesn't measure it. σ not given: the best of the run's."""
    values, evaluation = inside.loc[row["method"]], config["evaluation"]
    if row["metric"] == "accuracy":
        return 100 * values["clean_accuracy"], []
    if row["metric"] == "adversarial_accuracy" and row["norm"] == "linf":
        found = [one for one in evaluation["attack_id"]["epsilons"] if np.isclose(one, row["radius"], rtol=1e-3)]
        return (100 * values[adversarial_column(found[0])], []) if found else (None, [])
    settings = evaluation["certify_id"]
    if row["metric"] == "certified_accuracy" and row["radius"] in settings["radii"]:
        sigmas = settings["sigmas"] if np.isnan(row["sigma"]) else {row["sigma"]} & {*settings["sigmas"]}
        found = {sigma: values[certified_column(sigma, row["radius"])] for sigma in sigmas}
        if found:
            best = max(found, key=found.get)
            return 100 * found[best], [f"σ = {best:g} instead of one not given here"] if np.isnan(row["sigma"]) else []
    return None, []


def _increase(evidence, config):
    """DISTRO's mean of the nine metrics over that of the best method without a denoiser, in %; None without either."""
    means = headline_table(evidence, config).set_index("method")["mean"]
    earlier = [method for method in means.index if not is_randomised(config["methods"][method])]
    if "distro" not in means or not earlier:
        return None
    best = means[earlier].max()
    return 100 * (means["distro"] - best) / best


def _average(config, instead):
    return f"average of {len(config['data']['ood'])} OOD sets instead of {instead}"


def _here(row, inside, config):
    """What the measured number rests on."""
    here = setting(config, row["method"])
    trained = "not trained here" if here["epochs"] is None else f"{here['epochs']} epochs"
    images = inside.loc[row["method"], "images"] if row["metric"] == "accuracy" else here["images"]
    texts = [label(here["network"]), trained, f"{images} images"]
    if row["metric"].startswith("adversarial_accuracy"):
        kind = "randomised" if is_randomised(config["methods"][row["method"]]) else "deterministic"
        texts.append(f"{config['evaluation']['attack_id'][kind]['iterations']} AutoAttack iterations")
    elif row["metric"].startswith("adversarial"):
        texts.append(f"{config['evaluation']['attack_linf']['apgd']['iterations']} APGD iterations")
    return f"here {', '.join(texts)}"
