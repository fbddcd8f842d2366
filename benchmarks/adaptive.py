"""What adaptive sampling saves, and what its verdicts lose, on a finished run.

`python benchmarks/adaptive.py` on a finished digits run (`make`) certifies the same images with fixed and with adaptive
sampling, by the workflow's own functions, for four methods and all noise levels: OOD images against the threshold that
95 % of the ID lower bounds at radius 0 reach, by the percentile bound alone and by all four, and the labels of ID
images.
"""

import pandas as pd
from oodcert.evaluations.l2 import certify_l2
from oodcert.evaluations.labels import certify_id

from common import compared, finish, load_run, parser, run_script, show, started
from oodcert.evaluations.base import Evaluation
from oodcert.statistics.metrics import guaranteed_metrics, tpr_threshold

ALL_BOUNDS = ["percentile", "cdf", "gaussian", "lipschitz"]
CERTIFICATES = {"percentile": ["percentile"], "all four bounds": ALL_BOUNDS}


def main(argv=None):
    """Measures every method and noise level, prints the tables and writes the json file."""
    options = parser(__doc__.splitlines()[0], images=20, out="results/benchmarks/adaptive.json").parse_args(argv)
    run = load_run(options.config, options.directory, options.images)
    settings = {key: run.config["evaluation"][key] for key in ("certify_l2", "certify_id")}
    provenance = started(options, run.inputs, bounds=ALL_BOUNDS, config=settings)

    work, metrics = [], []
    for method in run.config["methods"]:
        for part, key in ((ood, "certify_l2"), (labels, "certify_id")):
            for sigma in settings[key]["sigmas"]:
                for found, frames in zip(part(run, method, sigma, options.n), (work, metrics), strict=True):
                    frames.append(found.assign(method=method, sigma=sigma))
    work, metrics = pd.concat(work), pd.concat(metrics)
    names = ["certificate", "method", "sigma"]
    work = work.sort_values(names)[names + list(work.columns.drop(names))]
    totals = work.drop(columns=names[1:]).groupby("certificate").sum().reset_index()
    for frame in (work, totals):
        frame["ratio"] = frame["calls_adaptive"] / frame["calls_fixed"]

    show("Network calls and decisions, adaptive against fixed", work, {"ratio": 3})
    show("In total", totals, {"ratio": 3})
    cells = metrics[metrics["certificate"] != "all four bounds"]
    cells = cells.assign(both=cells["fixed"].map("{:.2f}".format) + " → " + cells["adaptive"].map("{:.2f}".format))
    cells = cells.pivot(index=["metric", *names], columns="radius", values="both").reset_index()
    show("Certified metrics by l2 radius, fixed → adaptive", cells, {})
    finish(provenance, options, __file__, argv, calls=work, totals=totals, metrics=metrics)


def ood(run, method, sigma, n):
    """(a row per certificate: calls and how the decisions compare; certified FPR95 and AUC by bound and radius)."""
    rows, metrics = [], []
    fixed, fixed_calls = evaluated(certify_l2, run, method, sigma, n, sampling="fixed", bounds=ALL_BOUNDS)
    for certificate, bounds in CERTIFICATES.items():
        adaptive, calls = evaluated(certify_l2, run, method, sigma, n, sampling="adaptive", bounds=bounds)
        of_fixed = fixed[fixed["bound"].isin(bounds)]
        before, after = rejected(of_fixed), rejected(adaptive)
        work = {"calls_fixed": fixed_calls, "calls_adaptive": calls}
        rows.append({"certificate": certificate, **work, **compared(before, after)})
        for metric, values in (("fpr95", (fpr95(before), fpr95(after))), ("auc", (auc(of_fixed), auc(adaptive)))):
            rates = dict(zip(("fixed", "adaptive"), values, strict=True))
            metrics.append(pd.DataFrame(rates).reset_index().assign(certificate=certificate, metric=metric))
    return pd.DataFrame(rows), pd.concat(metrics)


def labels(run, method, sigma, n):
    """(one row: network calls and how the certified labels compare; certified ID accuracy by radius)."""
    fixed, fixed_calls = evaluated(certify_id, run, method, sigma, n, sampling="fixed")
    adaptive, calls = evaluated(certify_id, run, method, sigma, n, sampling="adaptive")
    work = {"calls_fixed": fixed_calls, "calls_adaptive": calls}
    radii = run.config["evaluation"]["certify_id"]["radii"]
    row = {"certificate": "labels", **work, **compared(certified(fixed, radii), certified(adaptive, radii))}
    rates = {"radius": radii, "fixed": accuracy(fixed, radii), "adaptive": accuracy(adaptive, radii)}
    return pd.DataFrame([row]), pd.DataFrame(rates).assign(certificate="labels", metric="accuracy", bound="vote")


def evaluated(evaluate, run, method, sigma, n, **settings):
    """(evidence, network calls) of one of the workflow's evaluations, with the run's settings but for those given."""
    config = run.config
    common = {"seed": config["seed"], **{key: config["data"][key] for key in ("num_classes", "test_images")}}
    common |= {"batch_size": config["evaluation"]["batch_size"], "method_spec": config["methods"][method]}
    settings = {**config["evaluation"][evaluate.__name__], **common, "sigmas": [sigma], "n": n, **settings}
    calls, classifier = [], run.parts[config["methods"][method]["classifier"]]
    hook = classifier.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    try:
        return evaluate(Evaluation(method, run.parts, run.sets, settings)), sum(calls)
    finally:
        hook.remove()


def rejected(table):
    """Whether each OOD image is certified below the bound's ID threshold, by set, sample, bound and radius."""
    inside, outside = table[(table["set"] == "id") & (table["radius"] == 0)], table[table["set"] != "id"]
    threshold = inside.groupby("bound")["lower"].agg(lambda lower: tpr_threshold(lower.to_numpy()))
    below = outside["upper"] < outside["bound"].map(threshold)
    return below.set_axis(pd.MultiIndex.from_frame(outside[["set", "sample", "bound", "radius"]]))


def fpr95(decided):
    """Certified FPR95 of all OOD sets together, by bound and radius."""
    return 1 - decided.groupby(["bound", "radius"]).mean()


def auc(table):
    """Guaranteed AUC by bound and radius, averaged over the OOD sets."""
    inside, outside = table[table["set"] == "id"], table[table["set"] != "id"]
    found = [guaranteed_metrics(inside, rows) for _, rows in outside.groupby("set")]
    return pd.concat(found).groupby(["bound", "radius"])["auc"].mean()


def certified(table, radii):
    """Whether each ID image's label, right or wrong, is certified, by sample and radius."""
    wide = pd.DataFrame({radius: (table["prediction"] >= 0) & (table["radius"] >= radius) for radius in radii})
    return wide.set_index(table["sample"]).stack()


def accuracy(table, radii):
    """Certified ID accuracy at each radius."""
    return [(table["correct"] & (table["radius"] >= radius)).mean() for radius in radii]


if __name__ == "__main__":
    run_script(main)
