"""The values of the evidence: in their range, and in agreement with one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd

from oodcert.audit.findings import Finding, Result, RowRule, rows_where
from oodcert.audit.layout import names_of
from oodcert.audit.rows import columns_wrong
from oodcert.audit.run import FileKey, Run
from oodcert.certification import VACUOUS_ABOVE
from oodcert.config.method_specs import MethodSpec
from oodcert.config.models import Config
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.evidence.order_checks import ROUNDING
from oodcert.reporting.tables.values import WORST_CASE

SCORES = {  # columns that hold scores of the method
    "clean": ["score"],
    "guarantee_linf": ["upper"],
    "attack_linf": ["clean", "attacked", "white_box", "square"],
    "sanity": ["clean", "attacked", "white_box", "square"],
    "attack_l2": ["median", "mean", "one_pass_score"],
    "one_pass": ["score"],
}
ID_SETS = ["id", "id_more"]
ATTACKS = ["clean", "apgd", "decontrast", "uniform", "gaussian", "square"]  # of the l-infinity ensemble
OTHER_CLEAN_SCORE = "another clean score than in the clean evidence"


def check_values(run: Run) -> Result:
    """Whether scores, labels and predictions are possible ones, and columns and evaluations agree with one another."""
    findings, compared = [], 0
    frames = {key: frame for key, frame in run.frames.items() if _is_whole(run, *key, frame)}
    for (evaluation, name), frame in frames.items():
        for rule in _rules(evaluation, name, frame, run.config):
            findings += rule.findings(f"evidence/{evaluation}/{name}.parquet")
        compared += len(frame)
    for method, method_spec in run.config.methods.items():
        for evaluation, rule in _agreement(method, frames, method_spec):
            findings += rule.findings(f"evidence/{evaluation}/{method}.parquet")
    return Result("values", compared, findings + _other_labels(frames))


def _is_whole(run: Run, evaluation: str, name: str, frame: pd.DataFrame) -> bool:
    """Whether a frame is one of the run's evaluations, with all its columns."""
    return (
        evaluation in EVALUATIONS
        and name in names_of(run.config, evaluation)
        and not columns_wrong(frame, evaluation, "")
    )


def _rules(evaluation: str, name: str, frame: pd.DataFrame, config: Config) -> Iterator[RowRule]:
    """The rules of one file."""
    yield from _label_rules(evaluation, frame, config.data.num_classes)
    if evaluation == "attack_linear":
        yield from _linear(frame)
        return
    method_spec = config.methods[name]
    yield from _score_rules(evaluation, frame, method_spec, config.data.num_classes)
    if evaluation == "authors_code" and config.evaluation.authors_code:
        yield from _authors_code(frame, method_spec, config.evaluation.authors_code.n)
    if evaluation in OWN:
        yield from OWN[evaluation](frame, method_spec)


def _score_rules(evaluation: str, frame: pd.DataFrame, method_spec: MethodSpec, num_classes: int) -> Iterator[RowRule]:
    for column in frame.columns.intersection(SCORES.get(evaluation, [])):
        values = frame[column]
        if method_spec.is_unbounded:
            allowed = np.isfinite(values) | ((evaluation == "guarantee_linf") & (values == np.inf))
            yield RowRule("not a score", frame, ~allowed, [column])
        else:
            bad = ~values.between(1 / num_classes - ROUNDING, 1 + ROUNDING)
            yield RowRule(f"not a maximum of {num_classes} probabilities", frame, bad, [column])


def _label_rules(evaluation: str, frame: pd.DataFrame, num_classes: int) -> Iterator[RowRule]:
    if "label" in frame:
        is_id, label = frame["set"].isin(ID_SETS), frame["label"]
        bad = np.where(is_id, ~label.between(0, num_classes - 1), label != -1)
        yield RowRule("not a label", frame, bad, ["set", "label"])
    if "prediction" in frame:
        least = -1 if evaluation == "certify_id" else 0
        bad = ~frame["prediction"].between(least, num_classes - 1)
        yield RowRule("not a prediction", frame, bad, ["prediction"])


def _attacked(frame: pd.DataFrame, method_spec: MethodSpec) -> Iterator[RowRule]:
    clean, attacked, white_box, square = (frame[column] for column in SCORES["attack_linf"])
    highest = frame[["white_box", "square"]].max(axis=1)
    yield RowRule("attacked is not the highest score", frame, attacked != highest, ["attacked", "white_box", "square"])
    yield RowRule("white_box is below the clean score", frame, white_box < clean, ["clean", "white_box"])
    winner = frame["attack"]
    wrong = (winner == "square") != (square > white_box)
    wrong |= (winner == "clean") != (attacked == clean)
    wrong |= ~winner.isin([*ATTACKS, *(["discriminator"] if method_spec.discriminator else [])])
    yield RowRule("attack does not name the winner", frame, wrong, ["attack", "clean", "white_box", "square"])
    error = frame["standard_error"]
    possible = error >= 0 if method_spec.is_unbounded else error.between(0, 1)
    deterministic = not method_spec.is_randomised
    yield RowRule(
        "not a standard error", frame, ~possible | (deterministic & (error != 0)), ["standard_error", "draws"]
    )


def _guaranteed(frame: pd.DataFrame, method_spec: MethodSpec) -> Iterator[RowRule]:
    worst, upper, vacuous = np.inf if method_spec.is_unbounded else 1.0, frame["upper"], frame["vacuous"]
    problem = "vacuous does not say whether the bound is the worst value"
    yield RowRule(problem, frame, vacuous != (upper >= worst), ["upper", "vacuous"])
    if worst == 1:
        yield RowRule("a bound this close to 1 counts as 1", frame, (upper > VACUOUS_ABOVE) & (upper != 1), ["upper"])
    if method_spec.denoiser and not method_spec.discriminator:
        yield RowRule("a randomised classifier has no interval bound", frame, ~vacuous, ["vacuous"])


def _certified_labels(frame: pd.DataFrame, _: MethodSpec) -> Iterator[RowRule]:
    abstains = frame["prediction"] < 0
    yield RowRule("a radius and an abstention", frame, abstains != (frame["radius"] <= 0), ["prediction", "radius"])
    agrees = ~abstains & (frame["prediction"] == frame["label"])
    problem = "correct does not follow from the prediction"
    yield RowRule(problem, frame, frame["correct"] != agrees, ["label", "prediction", "correct"])


def _attacked_labels(frame: pd.DataFrame, _: MethodSpec) -> Iterator[RowRule]:
    bad = frame["correct"] & ~frame["clean_correct"]
    yield RowRule("robust but not correct unattacked", frame, bad, ["clean_correct", "correct"])
    is_worst, key = frame["attack"] == WORST_CASE, ["sample", "epsilon"]
    everywhere = frame[~is_worst].groupby(key)["correct"].all().rename("everywhere")
    bad = is_worst & (frame["correct"] != frame[key].join(everywhere, on=key)["everywhere"])
    yield RowRule("the worst case is not that of the attacks", frame, bad, ["sample", "attack", "correct"])


def _linear(frame: pd.DataFrame) -> Iterator[RowRule]:
    attacked, maximum = frame["attacked"], frame["maximum"]
    bad = attacked > maximum + ROUNDING * maximum.abs().clip(lower=1)
    yield RowRule("above the known maximum", frame, bad, ["attacked", "maximum"])
    yield RowRule("the attack lost", frame, attacked < frame["clean"], ["clean", "attacked"])


def _authors_code(frame: pd.DataFrame, method_spec: MethodSpec, n: int) -> Iterator[RowRule]:
    value, quantity, columns = frame["value"], frame["quantity"], ["quantity", "value"]
    is_truth = quantity.isin(["correct", "voted_right", "robust", "single_image"])
    yield RowRule("neither 0 nor 1", frame, is_truth & ~value.isin([0, 1]), columns)
    bad = (quantity == "agreeing") & (~value.between(0, n) | (value % 1 != 0))
    yield RowRule("not a number of votes", frame, bad, columns)
    may_be_infinite = {"bound", "l2_bound"} if method_spec.is_unbounded else set()
    possible = np.isfinite(value) | (quantity.isin(may_be_infinite) & (value == np.inf))
    yield RowRule("not a score", frame, ~possible, columns)
    if method_spec.score == "msp":
        is_share = quantity.isin(["score", "attacked", "one_pass", "l2_bound"])
        yield RowRule("not a probability", frame, is_share & ~value.between(0, 1 + ROUNDING), columns)


OWN: Mapping[str, Callable[[pd.DataFrame, MethodSpec], Iterator[RowRule]]] = {
    "attack_linf": _attacked,
    "sanity": _attacked,
    "guarantee_linf": _guaranteed,
    "certify_id": _certified_labels,
    "attack_id": _attacked_labels,
}


def _agreement(
    method: str, frames: Mapping[FileKey, pd.DataFrame], method_spec: MethodSpec
) -> Iterator[tuple[str, RowRule]]:
    """(evaluation, rule) on what evaluations of one method say of the same thing as its clean evidence."""
    if ("clean", method) not in frames:
        return
    clean = frames["clean", method].drop_duplicates(["set", "sample"])
    scores = clean[["set", "sample", "score"]]
    for evaluation, tolerance in (("attack_linf", 0.0), ("sanity", ROUNDING)):  # sanity runs have smaller batches
        if (evaluation, method) in frames:
            joined = frames[evaluation, method].merge(scores, on=["set", "sample"], how="left")
            gap = (joined["clean"] - joined["score"]).abs() / joined["score"].abs().clip(lower=1)
            yield evaluation, RowRule(OTHER_CLEAN_SCORE, joined, ~(gap <= tolerance), ["clean", "score"])
    if ("authors_code", method) in frames and method_spec.score == "msp" and not method_spec.denoiser:
        frame = frames["authors_code", method]
        # D13 is the only flag that changes their scores, those of joint models; where it acts, it must be corrected
        corrected = "D13" if (frame["corrected_flag"] == "D13").any() else ""
        same = frame[(frame["quantity"] == "score") & (frame["corrected_flag"] == corrected)]
        joined = same.merge(scores, on=["set", "sample"], how="left")
        bad = ~((joined["value"] - joined["score"]).abs() <= ROUNDING)
        yield "authors_code", RowRule(OTHER_CLEAN_SCORE, joined, bad, ["set", "sample", "value", "score"])
    if ("attack_id", method) in frames:
        predictions = clean.loc[clean["set"] == "id", ["sample", "prediction"]]
        joined = frames["attack_id", method].merge(predictions, on="sample", how="left")
        bad = joined["clean_correct"] != (joined["prediction"] == joined["label"])
        problem = "clean_correct does not follow from the prediction in the clean evidence"
        yield "attack_id", RowRule(problem, joined, bad, ["label", "prediction", "clean_correct"])


def _other_labels(frames: Mapping[FileKey, pd.DataFrame]) -> list[Finding]:
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
    columns = ["set", "sample", "label", "common"]
    return [
        finding
        for file, group in rows[rows["label"] != rows["common"]].groupby("file")
        for finding in rows_where(str(file), group.set_index("row"), True, columns, "another label")
    ]
