"""The ablation of the authors' code: what each of its flags, corrected, does to what is reported."""

from __future__ import annotations

import numpy as np
import pandas as pd

from oodcert.authors_code.flags import ALL, FLAGS, acting, case_of, groups, touches
from oodcert.config.models import Config
from oodcert.evidence.store import Evidence
from oodcert.reporting.tables.authors_code import measured

COLUMNS = ["method", "flag", "name", "measure", "authors_code", "sound", "effect", "note"]
NONE = "–"

MEASURES = {
    "headline": "headline mean",
    "violations": "above the bound",
    "l2_highest": "highest ℓ₂ confidence",
    "id_accuracy": "ID accuracy",
    "id_adversarial": "adversarial ID accuracy",
    "single_image": "a single image",
}
PREFIXES = {
    "l2_auc_": "ℓ₂ AUC at R =",
    "l2_population_": "ℓ₂ population at R =",
    "id_certified_": "certified ID accuracy at R =",
}


def ablation_table(evidence: Evidence, config: Config) -> pd.DataFrame:
    """A row per method x flag x measure that the flag may change, then a row per measure with the flag "all".

    A flag that does not act on a method has one row, whose note says why.

    Args:
        evidence: evaluation -> its rows.
        config: the run's.

    Returns:
        A DataFrame with COLUMNS. authors_code: the measure as the authors' code has it. sound: the same with this flag
        alone corrected, or with "all". effect: sound - authors_code; NaN if there is no value. note: what the authors'
        code does. Measures and their units are those of oodcert.reporting.tables.authors_code.measured.

    Raises:
        InputError: if evidence is missing.
    """
    theirs, sound = _by_method(measured(evidence, config)), _by_method(measured(evidence, config, ALL))
    alone = {}
    for flag in FLAGS:
        methods = {name: spec for name, spec in config.methods.items() if acting([flag], case_of(name, config))}
        if methods:
            alone[flag] = _by_method(measured(evidence, config.changed(methods=methods), flag, groups(flag)))
    rows: list[tuple] = []
    for method in config.methods:
        for flag, known in FLAGS.items():
            reason = known.idle(case_of(method, config))
            if reason is not None:
                rows.append((method, flag, known.name, NONE, np.nan, np.nan, f"no effect here: {reason}"))
                continue
            for measure, value in theirs[method].items():
                if touches(flag, measure):
                    corrected = alone[flag][method][measure]
                    rows.append((method, flag, known.name, measure, value, corrected, known.title))
        rows += [(method, ALL, ALL, key, value, sound[method][key], NONE) for key, value in theirs[method].items()]
    table = pd.DataFrame(rows, columns=[column for column in COLUMNS if column != "effect"])
    return table.assign(effect=table["sound"] - table["authors_code"])[COLUMNS]


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table's rows for people: of each flag the measure that it moves most, for one method, then those of "all".

    That method is distro if the flag acts on it, else the one with the largest effect. The rows of "all" are the
    headline of every method.

    Args:
        table: as of ablation_table.

    Returns:
        The rows that are shown.
    """
    acted = table[table["measure"] != NONE].copy()
    acted["size"] = acted["effect"].abs().fillna(0).round(6)  # as in the csv file, so that ties are ties there too
    rows = []
    for _, of_flag in acted[acted["flag"] != ALL].groupby("flag", sort=False):
        of_distro = of_flag[of_flag["method"] == "distro"]
        candidates = of_flag if of_distro.empty else of_distro
        rows.append(candidates.sort_values("size", ascending=False, kind="stable").iloc[0])
    order = [*FLAGS]
    rows.sort(key=lambda row: order.index(row["flag"]))
    headline = acted[(acted["flag"] == ALL) & (acted["measure"] == "headline")]
    return pd.concat([pd.DataFrame(rows), headline])[COLUMNS].reset_index(drop=True)


def measure_label(measure: str) -> str:
    """The readable form of a measure's name."""
    for prefix, text in PREFIXES.items():
        if measure.startswith(prefix):
            return f"{text} {measure.removeprefix(prefix)}"
    kind, _, metric = measure.partition("_")
    return MEASURES.get(measure, f"{kind} {metric.upper()}")


def _by_method(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Method -> measure -> value."""
    return {
        method: of_method.set_index("measure")["value"].to_dict()
        for method, of_method in rows.groupby("method", sort=False)
    }
