"""The ablation of the published protocol: what each of its flags, made sound, does to what is reported."""

import numpy as np
import pandas as pd

from oodcert.authors_code.flags import ALL, FLAGS, acting, case_of, groups, touches
from oodcert.reporting.tables.authors_code import measured

COLUMNS = ["method", "flag", "name", "measure", "published", "sound", "effect", "note"]
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


def ablation_table(evidence, config):
    """A row per method x flag x measure that the flag may change, then a row per measure with the flag "all".

    published: the measure under the published protocol; sound: the same with this flag alone made sound, or with "all";
    effect: sound - published; NaN where there is no value; note: what the published code does. A flag that does not act
    on a method has one row, whose note says why. Measures and their units: oodcert.reporting.tables.authors_code.measured.
    """
    published, sound = _by_method(measured(evidence, config)), _by_method(measured(evidence, config, ALL))
    alone = {}
    for flag in FLAGS:
        methods = {name: one for name, one in config["methods"].items() if acting([flag], case_of(name, config))}
        if methods:
            alone[flag] = _by_method(measured(evidence, {**config, "methods": methods}, flag, groups(flag)))
    rows = []
    for method in config["methods"]:
        for flag in FLAGS:
            reason = FLAGS[flag].idle(case_of(method, config))
            if reason is not None:
                rows.append((method, flag, FLAGS[flag].name, NONE, np.nan, np.nan, f"no effect here: {reason}"))
                continue
            for measure, value in published[method].items():
                if touches(flag, measure):
                    rows.append(
                        (
                            method,
                            flag,
                            FLAGS[flag].name,
                            measure,
                            value,
                            alone[flag][method][measure],
                            FLAGS[flag].title,
                        )
                    )
        rows += [(method, ALL, ALL, key, value, sound[method][key], NONE) for key, value in published[method].items()]
    table = pd.DataFrame(rows, columns=[column for column in COLUMNS if column != "effect"])
    return table.assign(effect=table["sound"] - table["published"])[COLUMNS]


def shown(table):
    """The table's rows for the eye: of each flag the measure that it moves most, for one method, then `all` of it.

    That method is distro where the flag acts on it, else the one with the largest effect. The rows of "all" are the
    headline of every method.
    """
    acted = table[table["measure"] != NONE].copy()
    acted["size"] = acted["effect"].abs().fillna(0).round(6)  # as in the csv file, so that ties are ties there too
    rows = []
    for _, part in acted[acted["flag"] != ALL].groupby("flag", sort=False):
        mine = part[part["method"] == "distro"]
        one = (part if mine.empty else mine).sort_values("size", ascending=False, kind="stable")
        rows.append(one.iloc[0])
    order = [*FLAGS]
    rows.sort(key=lambda row: order.index(row["flag"]))
    headline = acted[(acted["flag"] == ALL) & (acted["measure"] == "headline")]
    return pd.concat([pd.DataFrame(rows), headline])[COLUMNS].reset_index(drop=True)


def measure_label(measure):
    """The readable form of a measure's name."""
    for prefix, text in PREFIXES.items():
        if measure.startswith(prefix):
            return f"{text} {measure.removeprefix(prefix)}"
    kind, _, metric = measure.partition("_")
    return MEASURES.get(measure, f"{kind} {metric.upper()}")


def _by_method(rows):
    return {method: part.set_index("measure")["value"].to_dict() for method, part in rows.groupby("method", sort=False)}
