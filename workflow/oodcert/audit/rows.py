"""The rows of the evidence: which there are, and what the config fixes of them."""

from collections import Counter

import pandas as pd
from pandas.api import types

from oodcert.audit.authors_code import authors_code_rows
from oodcert.audit.findings import Finding, Result, rows_where
from oodcert.audit.layout import KEYS, names_of, rows_of
from oodcert.data.noise_sets import NOISE
from oodcert.data.sources import BUNDLED, SPLITS
from oodcert.errors import InputError

KINDS = {
    "str": types.is_string_dtype,
    "int": types.is_integer_dtype,
    "float": types.is_float_dtype,
    "bool": types.is_bool_dtype,
}
BUDGET = "apgd_iterations:int apgd_restarts:int pgd_iterations:int pgd_restarts:int queries:int draws:int"
LINF = f"epsilon:float clean:float attacked:float attack:str white_box:float square:float standard_error:float {BUDGET}"
COLUMNS = {
    "clean": "label:int prediction:int score:float draws:int",
    "guarantee_linf": "epsilon:float upper:float vacuous:bool",
    "attack_linf": LINF,
    "sanity": f"{LINF} share:float",
    "certify_l2": "bound:str sigma:float radius:float estimate:float lower:float upper:float n:int alpha:float",
    "attack_l2": "sigma:float radius:float median:float median_lower:float mean:float mean_lower:float n:int "
    "alpha:float iterations:int restarts:int draws:int",
    "certify_id": "sigma:float label:int prediction:int radius:float correct:bool n:int n0:int alpha:float",
    "attack_id": "label:int epsilon:float attack:str version:str iterations:int queries:int eot:int clean_correct:bool "
    "correct:bool",
    "attack_linear": "epsilon:float clean:float attacked:float maximum:float",
    "published": "corrected_flag:str quantity:str value:float",
}


def check_rows(run):
    """Whether the evidence has a row for every sample and setting of the config, once, and no other row."""
    findings, unchecked, compared = [], [], 0
    roster, surprises = _roster(run)
    findings += surprises
    for (evaluation, name), frame in run.frames.items():
        file = f"evidence/{evaluation}/{name}.parquet"
        if evaluation not in (*KEYS, "training"):
            unchecked.append(f"rows of {file}: the audit knows no evaluation {evaluation!r}")
            continue
        if name not in names_of(run.config, evaluation):  # a finding of check_files
            continue
        if evaluation == "training":
            wrong = _curve(frame, file, name, run.config)
        else:
            wrong = columns_wrong(frame, evaluation, file) or _rows(frame, evaluation, name, file, run.config, roster)
        findings += wrong
        compared += len(frame)
    return Result("rows", compared, findings, unchecked)


def columns_wrong(frame, evaluation, file):
    """Findings where a frame lacks columns of its evaluation, has others, or other types, or empty cells."""
    expected = {"method": "str", "set": "str", "sample": "int"}
    expected |= dict(one.split(":") for one in COLUMNS[evaluation].split())
    findings = [
        Finding(file, f"column {column}", "it is missing, or not expected")
        for column in sorted(expected.keys() ^ set(frame.columns))
    ]
    findings += [
        Finding(file, f"column {column}", f"its type is {frame[column].dtype}, not {kind}")
        for column, kind in expected.items()
        if column in frame and not KINDS[kind](frame[column])
    ]
    for column in frame.columns[frame.isna().any()]:
        findings += rows_where(file, frame, frame[column].isna(), [column], "an empty cell")
    return findings


def _rows(frame, evaluation, name, file, config, roster):
    """Findings on the rows of one file, all of whose columns are there."""
    key = ["set", "sample", *KEYS[evaluation]]
    findings = rows_where(file, frame, frame["method"] != name, ["method"], "rows of another method")
    findings += rows_where(file, frame, frame.duplicated(key), key, "the row occurs a second time")
    expected = _expected(config, evaluation, name, roster)
    both = expected.merge(
        frame.reset_index().drop_duplicates(key), on=key, how="outer", suffixes=("_config", ""), indicator=True
    )
    for side, problem in (("left_only", "no row of"), ("right_only", "by the config there is no row of")):
        for row in both.loc[both["_merge"] == side, key].to_dict("records"):
            findings.append(Finding(file, "rows", f"{problem} {', '.join(f'{k} = {v}' for k, v in row.items())}"))
    both = both[both["_merge"] == "both"].set_index(both.loc[both["_merge"] == "both", "index"].astype(int))
    for column in expected.columns.difference(key):
        bad = both[column] != both[f"{column}_config"]
        findings += rows_where(file, both, bad, [column, f"{column}_config"], "another value than by the config")
    return findings


def _expected(config, evaluation, name, roster):
    """Every row that the config asks for: set, sample, and the columns that it fixes."""
    if evaluation == "published":
        return authors_code_rows(config, name, roster)
    blocks = []
    for one, first, last, rows in rows_of(config, evaluation, name):
        samples = roster["id" if one == "id_more" else one][first:last]
        blocks.append(pd.DataFrame({"set": one, "sample": samples}).merge(pd.DataFrame(rows), how="cross"))
    return pd.concat(blocks, ignore_index=True)


def _roster(run):
    """set -> its sample ids in their order, those after data.test_images of "id_more"; findings where files disagree.

    Those of bundled sets and noise are known, those of others are what most files of the evaluation "clean" say.
    """
    data, seen = run.config["data"], {}
    for (evaluation, name), frame in run.frames.items():
        if evaluation == "clean" and {"set", "sample"} <= set(frame.columns):
            for one, rows in frame.groupby("set"):
                seen.setdefault(one, []).append((tuple(rows["sample"]), name))
    roster, findings = {}, []
    for one in ("id", *data["ood"], "id_more"):
        known = _known(one, data)
        votes = seen.get(one, [])
        if known is None and not votes and one != "id_more":
            raise InputError(f"No intact file of the evaluation clean has the set {one!r}: its samples are not known.")
        roster[one] = list(known or (Counter(ids for ids, _ in votes).most_common(1)[0][0] if votes else ()))
        findings += [
            Finding(
                f"evidence/clean/{name}.parquet", f"set {one}", "its samples, or their order, are not those of the set"
            )
            for ids, name in votes
            if list(ids) != roster[one]
        ]
    roster["id"] += roster.pop("id_more")
    return roster, findings


def _known(one, data):
    """The evaluated sample ids of a set that needs no file; None of others."""
    n, name = data["test_images"], data["id"] if one in ("id", "id_more") else one
    if name in data["own"]:
        return None
    if (name, "test") in BUNDLED:
        split = pd.read_csv(SPLITS, usecols=["set", "sample"])
        samples = split.loc[split["set"] == BUNDLED[name, "test"], "sample"].tolist()
        return samples[n : data["accuracy_images"]] if one == "id_more" else samples[:n]
    return list(range(n)) if name in NOISE else None


def _curve(frame, file, name, config):
    """Findings on a learning curve: a row per epoch and term, every epoch there, of that part."""
    epochs = config["training"][name]["epochs"]
    if set(frame.columns) != {"epoch", "term", "value", "part"} or not types.is_float_dtype(frame["value"]):
        return [
            Finding(file, "columns", f"{', '.join(frame.columns)} are not those of a learning curve, or not floats")
        ]
    findings = rows_where(file, frame, frame["part"] != name, ["part"], "rows of another part")
    findings += rows_where(file, frame, frame.duplicated(["epoch", "term"]), ["epoch", "term"], "a second time")
    findings += rows_where(file, frame, frame["value"].isna(), ["epoch", "term"], "an empty cell")
    if set(frame["epoch"]) != set(range(1, epochs + 1)):
        findings.append(Finding(file, "epoch", f"they are not 1 to {epochs}, by the config"))
    return findings
