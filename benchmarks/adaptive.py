"""What adaptive sampling saves, and what its verdicts lose, on a finished run.

`python benchmarks/adaptive.py` on a finished digits run (`make`) certifies the same images with fixed and with adaptive
sampling, by the workflow's own functions, for four methods and all noise levels: OOD images against the threshold that
95 % of the ID lower bounds at radius 0 reach, by the percentile bound alone and by all four, and the labels of ID
images.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from common import Run, compared, counted, finish, load_run, parser, run_script, show, started
from oodcert.evaluations.base import Evaluation
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.statistics.metrics import guaranteed_metrics, tpr_threshold

ALL_BOUNDS = ("percentile", "cdf", "gaussian", "lipschitz")
CERTIFICATES = {"percentile": ("percentile",), "all four bounds": ALL_BOUNDS}
Comparison = tuple[pd.DataFrame, pd.DataFrame]  # calls and decisions by certificate; metrics by bound and radius


def main(argv: Sequence[str] | None = None) -> None:
    """Measures every method and noise level, prints the tables and writes the json file."""
    options = parser(__doc__, images=20, out="results/benchmarks/adaptive.json").parse_args(argv)
    run = load_run(options.config, options.directory, options.images)
    evaluation = run.config.evaluation
    settings = {"certify_l2": evaluation.certify_l2.as_json(), "certify_id": evaluation.certify_id.as_json()}
    provenance = started(options, run.inputs, bounds=ALL_BOUNDS, config=settings)

    rows: list[pd.DataFrame] = []
    metric_rows: list[pd.DataFrame] = []
    for method in run.config.methods:
        for compare, sigmas in (
            (compare_scores, evaluation.certify_l2.sigmas),
            (compare_labels, evaluation.certify_id.sigmas),
        ):
            for sigma in sigmas:
                for frame, frames in zip(compare(run, method, sigma, options.n), (rows, metric_rows), strict=True):
                    frames.append(frame.assign(method=method, sigma=sigma))
    calls, metrics = pd.concat(rows), pd.concat(metric_rows)
    names = ["certificate", "method", "sigma"]
    calls = calls.sort_values(names)[names + list(calls.columns.drop(names))]
    totals = calls.drop(columns=names[1:]).groupby("certificate").sum().reset_index()
    for frame in (calls, totals):
        frame["ratio"] = frame["calls_adaptive"] / frame["calls_fixed"]

    show("Network calls and decisions, adaptive against fixed", calls, {"ratio": 3})
    show("In total", totals, {"ratio": 3})
    cells = metrics[metrics["certificate"] != "all four bounds"]
    cells = cells.assign(both=cells["fixed"].map("{:.2f}".format) + " → " + cells["adaptive"].map("{:.2f}".format))
    cells = cells.pivot(index=["metric", *names], columns="radius", values="both").reset_index()
    show("Certified metrics by l2 radius, fixed → adaptive", cells, {})
    finish(provenance, options, __file__, argv, calls=calls, totals=totals, metrics=metrics)


def compare_scores(run: Run, method: str, sigma: float, n: int) -> Comparison:
    """Certified scores: a row per certificate, and the certified FPR95 and AUC."""
    rows, metrics = [], []
    fixed, fixed_calls = evaluated("certify_l2", run, method, sigma, n=n, sampling="fixed", bounds=ALL_BOUNDS)
    for certificate, bounds in CERTIFICATES.items():
        adaptive, calls = evaluated("certify_l2", run, method, sigma, n=n, sampling="adaptive", bounds=bounds)
        of_fixed = fixed[fixed["bound"].isin(bounds)]
        before, after = rejected(of_fixed), rejected(adaptive)
        counts = {"calls_fixed": fixed_calls, "calls_adaptive": calls}
        rows.append({"certificate": certificate, **counts, **compared(before, after)})
        for metric, values in (("fpr95", (fpr95(before), fpr95(after))), ("auc", (auc(of_fixed), auc(adaptive)))):
            rates = dict(zip(("fixed", "adaptive"), values, strict=True))
            metrics.append(pd.DataFrame(rates).reset_index().assign(certificate=certificate, metric=metric))
    return pd.DataFrame(rows), pd.concat(metrics)


def compare_labels(run: Run, method: str, sigma: float, n: int) -> Comparison:
    """Certified labels: one row, and the certified ID accuracy."""
    fixed, fixed_calls = evaluated("certify_id", run, method, sigma, n=n, sampling="fixed")
    adaptive, calls = evaluated("certify_id", run, method, sigma, n=n, sampling="adaptive")
    counts = {"calls_fixed": fixed_calls, "calls_adaptive": calls}
    radii = run.config.evaluation.certify_id.radii
    row = {"certificate": "labels", **counts, **compared(certified(fixed, radii), certified(adaptive, radii))}
    rates = {"radius": radii, "fixed": accuracy(fixed, radii), "adaptive": accuracy(adaptive, radii)}
    return pd.DataFrame([row]), pd.DataFrame(rates).assign(certificate="labels", metric="accuracy", bound="vote")


def evaluated(evaluation: str, run: Run, method: str, sigma: float, **changes: Any) -> tuple[pd.DataFrame, int]:
    """Evidence of one of the workflow's evaluations at one sigma, and its calls of the classifier.

    changes: settings that differ from the run's.
    """
    spec = EVALUATIONS[evaluation]
    settings = spec.settings(run.config, method).changed(sigmas=(sigma,), **changes)
    classifier = run.config.methods[method].classifier
    with counted({classifier: run.components[classifier]}) as passes:
        evidence = spec.load()(Evaluation(method, run.components, run.sets, settings))
    return evidence, passes[classifier].images


def rejected(table: pd.DataFrame) -> pd.Series:
    """Whether each OOD image is certified below the bound's ID threshold, by set, sample, bound and radius."""
    id_rows, ood_rows = table[(table["set"] == "id") & (table["radius"] == 0)], table[table["set"] != "id"]
    threshold = id_rows.groupby("bound")["lower"].agg(lambda lower: tpr_threshold(lower.to_numpy()))
    below = ood_rows["upper"] < ood_rows["bound"].map(threshold)
    return below.set_axis(pd.MultiIndex.from_frame(ood_rows[["set", "sample", "bound", "radius"]]))


def fpr95(decided: pd.Series) -> pd.Series:
    """Certified FPR95 of all OOD sets together, by bound and radius."""
    return 1 - decided.groupby(["bound", "radius"]).mean()


def auc(table: pd.DataFrame) -> pd.Series:
    """Guaranteed AUC by bound and radius, averaged over the OOD sets."""
    id_rows, ood_rows = table[table["set"] == "id"], table[table["set"] != "id"]
    by_set = [guaranteed_metrics(id_rows, rows) for _, rows in ood_rows.groupby("set")]
    return pd.concat(by_set).groupby(["bound", "radius"])["auc"].mean()


def certified(table: pd.DataFrame, radii: Sequence[float]) -> pd.Series:
    """Whether each ID image's label, right or wrong, is certified, by sample and radius."""
    wide = pd.DataFrame({radius: (table["prediction"] >= 0) & (table["radius"] >= radius) for radius in radii})
    return wide.set_index(table["sample"]).stack()


def accuracy(table: pd.DataFrame, radii: Sequence[float]) -> list[float]:
    """Certified ID accuracy at each radius."""
    return [(table["correct"] & (table["radius"] >= radius)).mean() for radius in radii]


if __name__ == "__main__":
    run_script(main)
