"""The values of the evidence: in their range, and in agreement with one another."""

import numpy as np
import pandas as pd

from oodcert.audit.findings import Result, rows_where
from oodcert.audit.layout import KEYS
from oodcert.audit.rows import columns_wrong
from oodcert.certification import VACUOUS_ABOVE
from oodcert.config.method_specs import is_randomised
from oodcert.evidence.order_checks import ROUNDING
from oodcert.models.scores import UNBOUNDED_SCORES
from oodcert.reporting.tables.values import WORST_CASE

SCORES = {  # columns that hold scores of the method
    "clean": ["score"],
    "guarantee_linf": ["upper"],
    "attack_linf": ["clean", "attacked", "white_box", "square"],
    "sanity": ["clean", "attacked", "white_box", "square"],
    "attack_l2": ["median", "mean"],
}
ID_SETS = ["id", "id_more"]


def check_values(run):
    """Whether scores, labels and predictions are possible ones, and columns and evaluations agree with one another."""
    findings, compared = [], 0
    sound = {key: frame for key, frame in run.frames.items() if _sound(run, *key, frame)}
    for (evaluation, name), frame in sound.items():
        file = f"evidence/{evaluation}/{name}.parquet"
        for problem, columns, bad in _rules(evaluation, name, frame, run.config):
            findings += rows_where(file, frame, bad, columns, problem)
        compared += len(frame)
    for name in run.config["methods"]:
        for file, frame, problem, columns, bad in _between(name, sound, run.config["methods"][name]):
            findings += rows_where(file, frame, bad, columns, problem)
    return Result("values", compared, findings + _labels(sound))


def _sound(run, evaluation, name, frame):
    return (
        evaluation in KEYS and name in (*run.config["methods"], "linear") and not columns_wrong(frame, evaluation, "")
    )


def _rules(evaluation, name, frame, config):
    """(problem, columns, rows that have it) of one file."""
    method_spec, classes = config["methods"].get(name), config["data"]["num_classes"]
    for column in SCORES.get(evaluation, ()):
        values = frame[column]
        if method_spec["score"] in UNBOUNDED_SCORES:
            allowed = np.isfinite(values) | ((evaluation == "guarantee_linf") & (values == np.inf))
            yield "not a score", [column], ~allowed
        else:
            bad = ~values.between(1 / classes - ROUNDING, 1 + ROUNDING)
            yield f"not a maximum of {classes} probabilities", [column], bad
    if "label" in frame:
        inside, label = frame["set"].isin(ID_SETS), frame["label"]
        bad = np.where(inside, ~label.between(0, classes - 1), label != -1)
        yield "not a label", ["set", "label"], bad
    if "prediction" in frame:
        least = -1 if evaluation == "certify_id" else 0
        yield "not a prediction", ["prediction"], ~frame["prediction"].between(least, classes - 1)
    if evaluation == "published":
        yield from _published(frame, method_spec, config["evaluation"]["published"]["n"])
    yield from OWN.get(evaluation, lambda *_: ())(frame, method_spec)


def _attacked(frame, method_spec):
    parts = frame[["white_box", "square"]].max(axis=1)
    yield "attacked is not the highest score", ["attacked", "white_box", "square"], frame["attacked"] != parts
    yield "white_box is below the clean score", ["clean", "white_box"], frame["white_box"] < frame["clean"]
    winner, square = frame["attack"], frame["square"] > frame["white_box"]
    wrong = (winner == "square") != square
    wrong |= (winner == "clean") & (frame["attacked"] != frame["clean"])
    wrong |= (winner != "clean") & (frame["attacked"] == frame["clean"])
    known = ["clean", "apgd", "decontrast", "uniform", "gaussian", "square"]
    known += ["discriminator"] if method_spec["discriminator"] else []
    wrong |= ~winner.isin(known)
    yield "attack does not name the winner", ["attack", "clean", "white_box", "square"], wrong
    error = frame["standard_error"]
    possible = error.between(0, 1) if method_spec["score"] not in UNBOUNDED_SCORES else error >= 0
    deterministic = not is_randomised(method_spec)
    yield "not a standard error", ["standard_error", "draws"], ~possible | (deterministic & (error != 0))


def _guaranteed(frame, method_spec):
    worst = np.inf if method_spec["score"] in UNBOUNDED_SCORES else 1.0
    yield (
        "vacuous does not say whether the bound is the worst value",
        ["upper", "vacuous"],
        frame["vacuous"] != (frame["upper"] >= worst),
    )
    if worst == 1:
        yield "a bound this close to 1 counts as 1", ["upper"], (frame["upper"] > VACUOUS_ABOVE) & (frame["upper"] != 1)
    if method_spec["denoiser"] and not method_spec["discriminator"]:
        yield "a randomised classifier has no interval bound", ["vacuous"], ~frame["vacuous"]


def _certified_labels(frame, _):
    abstains = frame["prediction"] < 0
    yield "a radius and an abstention", ["prediction", "radius"], abstains != (frame["radius"] <= 0)
    agrees = ~abstains & (frame["prediction"] == frame["label"])
    yield "correct does not follow from the prediction", ["label", "prediction", "correct"], frame["correct"] != agrees


def _attacked_labels(frame, _):
    yield "robust but not correct unattacked", ["clean_correct", "correct"], frame["correct"] & ~frame["clean_correct"]
    worst = frame["attack"] == WORST_CASE
    key = ["sample", "epsilon"]
    everywhere = frame[~worst].groupby(key)["correct"].all().rename("everywhere")
    joined = frame[key].join(everywhere, on=key)["everywhere"]
    yield (
        "the worst case is not that of the attacks",
        ["sample", "attack", "correct"],
        worst & (frame["correct"] != joined),
    )


def _linear(frame, _):
    yield (
        "above the known maximum",
        ["attacked", "maximum"],
        frame["attacked"] > frame["maximum"] + ROUNDING * (frame["maximum"].abs().clip(lower=1)),
    )
    yield "the attack lost", ["clean", "attacked"], frame["attacked"] < frame["clean"]


def _published(frame, method_spec, n):
    value, quantity = frame["value"], frame["quantity"]
    whether = quantity.isin(["correct", "voted_right", "robust", "single_image"])
    yield "neither 0 nor 1", ["quantity", "value"], whether & ~value.isin([0, 1])
    count = quantity == "agreeing"
    yield "not a number of votes", ["quantity", "value"], count & (~value.between(0, n) | (value % 1 != 0))
    ends = {"bound", "l2_bound"} if method_spec["score"] in UNBOUNDED_SCORES else set()
    possible = np.isfinite(value) | (quantity.isin(ends) & (value == np.inf))
    yield "not a score", ["quantity", "value"], ~possible
    if method_spec["score"] == "msp":
        share = quantity.isin(["score", "attacked", "one_pass", "l2_bound"])
        yield "not a probability", ["quantity", "value"], share & ~value.between(0, 1 + ROUNDING)


OWN = {
    "attack_linf": _attacked,
    "sanity": _attacked,
    "guarantee_linf": _guaranteed,
    "certify_id": _certified_labels,
    "attack_id": _attacked_labels,
    "attack_linear": _linear,
}


def _between(name, frames, method_spec):
    """(file, frame, problem, columns, rows that have it) where two evaluations of one method disagree."""
    clean = frames.get(("clean", name))
    if clean is None:
        return
    clean = clean.drop_duplicates(["set", "sample"])
    for evaluation, tolerance in (("attack_linf", 0.0), ("sanity", ROUNDING)):  # sanity runs have smaller batches
        frame = frames.get((evaluation, name))
        if frame is not None:
            joined = frame.merge(clean[["set", "sample", "score"]], on=["set", "sample"], how="left")
            gap = (joined["clean"] - joined["score"]).abs() / joined["score"].abs().clip(lower=1)
            file = f"evidence/{evaluation}/{name}.parquet"
            yield (
                file,
                joined,
                "another clean score than in the clean evidence",
                ["clean", "score"],
                ~(gap <= tolerance),
            )
    frame = frames.get(("published", name))
    if frame is not None and method_spec["score"] == "msp" and not method_spec["denoiser"]:
        file = f"evidence/published/{name}.parquet"
        # D13, 10 classes, changes the scores of joint models alone
        unchanged = frame[
            (frame["quantity"] == "score")
            & (frame["corrected_flag"] == ("D13" if (frame["corrected_flag"] == "D13").any() else ""))
        ]
        joined = unchanged.merge(clean[["set", "sample", "score"]], on=["set", "sample"], how="left")
        bad = ~((joined["value"] - joined["score"]).abs() <= ROUNDING)
        yield file, joined, "another clean score than in the clean evidence", ["set", "sample", "value", "score"], bad
    frame = frames.get(("attack_id", name))
    if frame is not None:
        joined = frame.merge(clean.loc[clean["set"] == "id", ["sample", "prediction"]], on="sample", how="left")
        bad = joined["clean_correct"] != (joined["prediction"] == joined["label"])
        problem = "clean_correct does not follow from the prediction in the clean evidence"
        yield f"evidence/attack_id/{name}.parquet", joined, problem, ["label", "prediction", "clean_correct"], bad


def _labels(frames):
    """Findings where a sample's label is not the one that most rows give it, in all evaluations and methods."""
    labelled = [
        frame[["set", "sample", "label"]].assign(file=f"evidence/{'/'.join(key)}.parquet", row=frame.index)
        for key, frame in frames.items()
        if "label" in frame
    ]
    if not labelled:
        return []
    rows = pd.concat(labelled, ignore_index=True)
    common = rows.groupby(["set", "sample"])["label"].median().rename("common")
    rows = rows.join(common, on=["set", "sample"])
    return [
        finding
        for file, group in rows[rows["label"] != rows["common"]].groupby("file")
        for finding in rows_where(
            file,
            group.set_index("row"),
            True,
            ["set", "sample", "label", "common"],
            "another label",
        )
    ]
