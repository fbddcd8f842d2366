"""The rows of the evidence: which there are, and what the config fixes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pandas as pd
import pyarrow as pa
from pandas.api import types

from oodcert.audit.authors_code import authors_code_rows
from oodcert.audit.findings import Finding, Result, rows_where
from oodcert.audit.layout import EVIDENCE, TRAINING, names_of, rows_of
from oodcert.audit.run import Run
from oodcert.config.models import Config
from oodcert.data.noise_sets import NOISE
from oodcert.data.settings import DataSettings
from oodcert.data.sources import BUNDLED, SPLITS
from oodcert.errors import InputError
from oodcert.evaluations.registry import EVALUATIONS

KINDS = (  # of columns: what a type of the schema is, and what a column of a frame must be then
    (pa.types.is_integer, types.is_integer_dtype),
    (pa.types.is_floating, types.is_float_dtype),
    (pa.types.is_boolean, types.is_bool_dtype),
    (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind), types.is_string_dtype),
)
CURVE = {"epoch", "term", "value", "component"}  # columns of a learning curve
Roster = Mapping[str, list[int]]  # image set -> its sample ids in their order, those of "id_more" after those of "id"


def check_rows(run: Run) -> Result:
    """Whether the evidence has a row for every sample and setting of the config, once, and no other row."""
    unchecked, compared = [], 0
    roster, findings = _roster(run)
    for (evaluation, name), frame in run.frames.items():
        file = f"evidence/{evaluation}/{name}.parquet"
        if evaluation not in EVIDENCE:
            unchecked.append(
                f"values in {file}: what the config fixes of {evaluation!r} is not in oodcert.audit.layout"
            )
            if evaluation in EVALUATIONS:
                findings += columns_wrong(frame, evaluation, file) or _images_wrong(
                    frame, evaluation, name, file, run, roster
                )
                compared += len(frame)
            continue
        if name not in names_of(run.config, evaluation):  # a finding of check_files
            continue
        if evaluation == TRAINING:
            findings += _curve_wrong(frame, file, name, run.config)
        else:
            findings += columns_wrong(frame, evaluation, file) or _rows_wrong(
                frame, evaluation, name, file, run.config, roster
            )
        compared += len(frame)
    return Result("rows", compared, findings, unchecked)


def columns_wrong(frame: pd.DataFrame, evaluation: str, file: str) -> list[Finding]:
    """Findings where a frame lacks columns of its evaluation, has others, or other types, or empty cells."""
    schema, optional = EVALUATIONS[evaluation].schema, {*EVALUATIONS[evaluation].optional}
    findings = [
        Finding(file, f"column {column}", "it is missing, or not expected")
        for column in sorted({*schema.names} ^ {*frame.columns} ^ (optional - {*frame.columns}))
    ]
    findings += [
        Finding(file, f"column {field.name}", f"its type is {frame[field.name].dtype}, not {field.type}")
        for field in schema
        if field.name in frame and not _is_of(frame[field.name], field.type)
    ]
    for column in frame.columns[frame.isna().any()]:
        findings += rows_where(file, frame, frame[column].isna(), [column], "an empty cell")
    return findings


def _is_of(column: pd.Series, expected: pa.DataType) -> bool:
    """Whether a column is of the kind of a type, whatever its bits."""
    return any(is_kind(expected) and has_kind(column) for is_kind, has_kind in KINDS)


def _rows_wrong(
    frame: pd.DataFrame, evaluation: str, name: str, file: str, config: Config, roster: Roster
) -> list[Finding]:
    """Findings on the rows of one file, all of whose columns are there."""
    key = _key(evaluation)
    findings = _rows_apart(frame, evaluation, name, file)
    expected = _expected(config, evaluation, name, roster)
    both = expected.merge(
        frame.reset_index().drop_duplicates(key), on=key, how="outer", suffixes=("_config", ""), indicator=True
    )
    for side, problem in (("left_only", "no row of"), ("right_only", "by the config there is no row of")):
        for row in both.loc[both["_merge"] == side, key].to_dict("records"):
            findings.append(Finding(file, "rows", f"{problem} {', '.join(f'{k} = {v}' for k, v in row.items())}"))
    both = both[both["_merge"] == "both"].astype({"index": int}).set_index("index")
    for column in expected.columns.difference(key):
        bad = both[column] != both[f"{column}_config"]
        findings += rows_where(file, both, bad, [column, f"{column}_config"], "another value than by the config")
    return findings


def _key(evaluation: str) -> list[str]:
    return ["set", "sample", *EVALUATIONS[evaluation].keys]


def _rows_apart(frame: pd.DataFrame, evaluation: str, name: str, file: str) -> list[Finding]:
    """Findings where rows are of another method, or there twice."""
    key = _key(evaluation)
    findings = rows_where(file, frame, frame["method"] != name, ["method"], "rows of another method")
    return findings + rows_where(file, frame, frame.duplicated(key), key, "the row occurs a second time")


def _images_wrong(
    frame: pd.DataFrame, evaluation: str, name: str, file: str, run: Run, roster: Roster
) -> list[Finding]:
    """Findings on the rows of an evaluation of which the spec alone is known: every image of its sets has rows."""
    spec, config = EVALUATIONS[evaluation], run.config
    findings = _rows_apart(frame, evaluation, name, file)
    expected = {(one, sample) for one in spec.sets_of(config) for sample in roster[one][: spec.images(config)]}
    present = set(zip(frame["set"], frame["sample"], strict=True))
    for problem, images in (("no row of", expected - present), ("by the spec there is no row of", present - expected)):
        findings += [
            Finding(file, "rows", f"{problem} set = {one}, sample = {sample}") for one, sample in sorted(images)
        ]
    return findings


def _expected(config: Config, evaluation: str, name: str, roster: Roster) -> pd.DataFrame:
    """Every row that the config asks for: set, sample, and the columns that it fixes."""
    if evaluation == "authors_code":
        return authors_code_rows(config, name, roster)
    blocks = []
    for image_set, first, last, rows in rows_of(config, evaluation, name):
        samples = roster["id" if image_set == "id_more" else image_set][first:last]
        blocks.append(pd.DataFrame({"set": image_set, "sample": samples}).merge(pd.DataFrame(rows), how="cross"))
    return pd.concat(blocks, ignore_index=True)


def _roster(run: Run) -> tuple[Roster, list[Finding]]:
    """The samples of every image set, and findings where files disagree with them.

    The samples of bundled sets and noise are known. Those of others are what most files of the evaluation clean say.
    """
    data, seen = run.config.data, _clean_samples(run)
    roster, findings = {}, []
    for name in ("id", *data.ood, "id_more"):
        known, votes = _known_samples(name, data), seen.get(name, [])
        if known is None and not votes and name != "id_more":
            raise InputError(f"No intact file of the evaluation clean has the set {name!r}: its samples are unknown.")
        most_common = Counter(samples for samples, _ in votes).most_common(1)
        roster[name] = known or (list(most_common[0][0]) if votes else [])
        findings += [
            Finding(
                f"evidence/clean/{method}.parquet",
                f"set {name}",
                "its samples, or their order, are not those of the set",
            )
            for samples, method in votes
            if list(samples) != roster[name]
        ]
    roster["id"] += roster.pop("id_more")
    return roster, findings


def _clean_samples(run: Run) -> dict[str, list[tuple[tuple[int, ...], str]]]:
    """Image set -> (samples, method) of every file of the evaluation clean."""
    seen: dict[str, list[tuple[tuple[int, ...], str]]] = {}
    for (evaluation, method), frame in run.frames.items():
        if evaluation == "clean" and {"set", "sample"} <= {*frame.columns}:
            for image_set, rows in frame.groupby("set"):
                seen.setdefault(str(image_set), []).append((tuple(rows["sample"]), method))
    return seen


def _known_samples(image_set: str, data: DataSettings) -> list[int] | None:
    """The evaluated samples of a set that needs no file; None of others."""
    n, name = data.test_images, data.id if image_set in ("id", "id_more") else image_set
    if name in data.own:
        return None
    if (name, "test") in BUNDLED:
        split = pd.read_csv(SPLITS, usecols=["set", "sample"])
        samples = split.loc[split["set"] == BUNDLED[name, "test"], "sample"].tolist()
        return samples[n : data.accuracy_images] if image_set == "id_more" else samples[:n]
    return list(range(n)) if name in NOISE else None


def _curve_wrong(frame: pd.DataFrame, file: str, name: str, config: Config) -> list[Finding]:
    """Findings on a learning curve: a row per epoch and term, every epoch there, of that component."""
    epochs = config.training[name].epochs
    if {*frame.columns} != CURVE or not types.is_float_dtype(frame["value"]):
        problem = f"{', '.join(frame.columns)} are not those of a learning curve, or not floats"
        return [Finding(file, "columns", problem)]
    findings = rows_where(file, frame, frame["component"] != name, ["component"], "rows of another component")
    findings += rows_where(file, frame, frame.duplicated(["epoch", "term"]), ["epoch", "term"], "a second time")
    findings += rows_where(file, frame, frame["value"].isna(), ["epoch", "term"], "an empty cell")
    if {*frame["epoch"]} != {*range(1, epochs + 1)}:
        findings.append(Finding(file, "epoch", f"they are not 1 to {epochs}, by the config"))
    return findings
