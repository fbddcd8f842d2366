"""A table's readable form, and its files: csv with every digit, Markdown and LaTeX (booktabs) for people."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from oodcert.authors_code.flags import ALL
from oodcert.config.models import Config
from oodcert.reporting.display_names import label, marked
from oodcert.reporting.escaping import markdown, tex, tex_cell
from oodcert.reporting.tables.ablation import measure_label, shown
from oodcert.reporting.tables.captions import SHOWN
from oodcert.reporting.tables.sanity import radius_column
from oodcert.reporting.tables.sentences import points
from oodcert.reporting.tables.values import (
    INGREDIENTS,
    PROTOCOLS,
    WORST_CASE,
    adversarial_column,
    certified_column,
    l2_metric,
)
from oodcert.runtime.files import atomic
from oodcert.statistics.metrics import METRICS

LONGEST_FLOAT = 40  # rows; longer tables may break over pages
LONGEST_LINE = 40  # characters of a cell


def readable(kind: str, frame: pd.DataFrame, config: Config) -> pd.DataFrame:
    """What people read of one of oodcert.reporting.tables.TABLES: labelled strings, values in %.

    Columns of two levels belong together under the first. The l2 table is cut to the average of one metric over the
    sets, that of reported values to SHOWN rows.

    Args:
        kind: the table's name.
        frame: the table.
        config: the run's.

    Returns:
        The table for people.
    """
    return READABLE[kind](frame, config)


def _id(frame: pd.DataFrame, config: Config) -> pd.DataFrame:
    attack, certify = config.evaluation.attack_id, config.evaluation.certify_id
    rows = []
    for _, values in frame.iterrows():
        for sigma in certify.sigmas:
            row = {("", "Method"): label(values["method"]), ("", "Clean"): _percent(values["clean_accuracy"])}
            for epsilon in attack.epsilons:
                row["Adversarial", f"ε = {epsilon:g}"] = _percent(values[adversarial_column(epsilon)])
            if sigma != certify.sigmas[0]:
                row = dict.fromkeys(row, "")
            row["Certified", "σ"] = f"{sigma:g}"
            for radius in certify.radii:
                row["Certified", f"R = {radius:g}"] = _percent(values[certified_column(sigma, radius)])
            rows.append(row)
    return _two_levels(rows)


def _autoattack(frame: pd.DataFrame, config: Config) -> pd.DataFrame:
    attacks = sorted(set(frame["attack"]) - {WORST_CASE})
    rows = []
    for (method, epsilon), chosen in frame.groupby(["method", "epsilon"], sort=False):
        accuracies = chosen.set_index("attack")["accuracy"]
        cells = {
            label(name): _percent(accuracies[name]) if name in accuracies else "–" for name in (*attacks, WORST_CASE)
        }
        rows.append({"Method": label(method), "ε": f"{epsilon:g}", **cells})
    shown = pd.DataFrame(rows)
    return shown.assign(Method=shown["Method"].mask(shown["Method"].duplicated(), ""))


def _sanity(frame: pd.DataFrame, config: Config) -> pd.DataFrame:
    checks = {"grows": "radius", "reaches_chance": "chance", "beats_square": "Square", "gains": "budget"}
    rows = []
    for _, values in frame.iterrows():
        row = {("", "Method"): label(values["method"]), ("", "Clean"): _percent(values["clean"])}
        for epsilon in config.evaluation.sanity.epsilons:
            row["Attacked", f"ε = {epsilon:g}"] = _percent(values[radius_column(epsilon)])
        here = f"At ε = {config.evaluation.epsilon:g}"
        for column, title in (("reduced", "¼ budget"), ("white_box", "white-box"), ("square", "Square")):
            row[here, title] = _percent(values[f"auc_{column}"])
        row[here, "Square wins"] = _percent(values["square_wins"])
        missed = [title for column, title in checks.items() if not values[column]]
        row["", "Reliable"] = "yes" if values["reliable"] else f"no: {', '.join(missed)}"
        rows.append(row)
    return _two_levels(rows)


def _ood(frame: pd.DataFrame, config: Config) -> pd.DataFrame:
    names, rows, first = ["average", *config.data.ood], [], next(iter(config.methods))
    cells = frame.set_index(["set", "method", "protocol"])
    for name in names:
        for method in config.methods:
            shown = marked(method, cells.loc[(name, method, "adversarial"), "reliable"])
            row = {("", "Set"): label(name) if method == first else "", ("", "Method"): shown}
            for protocol in PROTOCOLS:
                for metric in METRICS:
                    value = cells.loc[(name, method, protocol), metric]
                    row[protocol.capitalize(), metric.upper()] = _percent(value)
            rows.append(row)
    for name in config.data.unavailable:
        rows.append(dict.fromkeys(rows[0], "–") | {("", "Set"): label(name), ("", "Method"): "unavailable"})
    return _two_levels(rows)


def _l2(frame: pd.DataFrame, config: Config) -> pd.DataFrame:
    average, rows, metric = frame[frame["set"] == "average"], [], l2_metric(config)
    for (method, sigma), of_sigma in average.groupby(["method", "sigma"], sort=False):
        for bound, group in of_sigma.groupby("bound", sort=False):
            row = {"Method": label(method), "σ": f"{sigma:g}", "Bound": label(bound)}
            row |= {f"R = {one['radius']:g}": _percent(one[metric]) for _, one in group.iterrows()}
            rows.append(row)
    shown = pd.DataFrame(rows)
    repeated = shown["Method"] == shown["Method"].shift()
    return shown.assign(
        **{
            "Method": shown["Method"].mask(repeated, ""),
            "σ": shown["σ"].mask(repeated & (shown["σ"] == shown["σ"].shift()), ""),
        }
    )


def _headline(frame: pd.DataFrame, config: Config) -> pd.DataFrame:
    rows = []
    for _, values in frame.iterrows():
        row = {("", "Method"): marked(values["method"], values["reliable"])}
        for protocol in PROTOCOLS:
            for ingredient in INGREDIENTS:
                name = ingredient.upper().replace("-", " − ")
                row[protocol.capitalize(), name] = _percent(values[f"{protocol}_{ingredient}"])
        row["", "Mean"] = _percent(values["mean"])
        row["", "Lead"] = "–" if np.isnan(values["lead"]) else points(values["lead"])
        rows.append(row)
    return _two_levels(rows)


def _ablation(frame: pd.DataFrame, config: Config) -> pd.DataFrame:
    rows = []
    for _, values in shown(frame).iterrows():
        rows.append(
            {
                "Flag": values["flag"],
                "": values["name"] if values["flag"] != ALL else "all flags",
                "Method": label(values["method"]),
                "Measure": measure_label(values["measure"]),
                "Authors' code": _percent(values["authors_code"]),
                "Sound": _percent(values["sound"]),
                "Effect": "–" if np.isnan(values["effect"]) else points(values["effect"]),
            }
        )
    return pd.DataFrame(rows)


def _claims(frame: pd.DataFrame, config: Config) -> pd.DataFrame:
    rows = []
    for _, values in frame.iterrows():
        measured, low, high = (_decimal(values[key]) for key in ("measured", "lower", "upper"))
        rows.append(
            {
                "Claim": values["id"],
                "Statement": values["statement"],
                "Reported": values["reported_value"],
                "Expected": values["expected"],
                "Measured": "–" if np.isnan(values["measured"]) else f"{measured} [{low}, {high}]",
                "Verdict": values["verdict"],
                "Why": values["why"],
            }
        )
    return pd.DataFrame(rows)


def _reported(frame: pd.DataFrame, config: Config) -> pd.DataFrame:
    turn = frame.groupby(["differences", "paper", "method"]).cumcount()
    chosen = frame.assign(turn=turn).sort_values(["differences", "turn"], kind="stable").index[:SHOWN]
    rows = []
    for _, values in frame.loc[sorted(chosen)].iterrows():
        radius = "" if np.isnan(values["radius"]) else f" ({values['radius']:.3g})"
        rows.append(
            {
                "Paper": re.split(r"[(;]", values["paper"])[0].strip(),
                "ID": label(values["id_set"]),
                "OOD": label(values["ood_set"]),
                "Method": label(values["method"]),
                "Metric": label(values["metric"]) + radius,
                "Reported": _decimal(values["reported"]),
                "Measured": _decimal(values["measured"]),
                "Difference": _decimal(values["difference"], "+"),
                "Setting": values["setting"],
            }
        )
    columns = ["Paper", "ID", "OOD", "Method", "Metric", "Reported", "Measured", "Difference", "Setting"]
    return pd.DataFrame(rows, columns=columns, dtype=str)


def _two_levels(rows: Sequence[Mapping[tuple[str, str], str]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    return frame.set_axis(pd.MultiIndex.from_tuples(frame.columns), axis=1)


READABLE: dict[str, Callable[[pd.DataFrame, Config], pd.DataFrame]] = {
    "id": _id,
    "autoattack": _autoattack,
    "ood": _ood,
    "l2": _l2,
    "sanity": _sanity,
    "headline": _headline,
    "claims": _claims,
    "reported": _reported,
    "ablation": _ablation,
}


def write_table(frame: pd.DataFrame, caption: str, stem: str | Path, shown: pd.DataFrame | None = None) -> None:
    """Writes a table as csv, Markdown and LaTeX, each file whole or not at all.

    All three are rendered before the first is written, so a table that cannot be rendered leaves no file behind.

    Args:
        frame: the table; stem.csv holds it with six decimals.
        caption: plain text, the first paragraph of stem.md and the caption of stem.tex.
        stem: path of the files without a suffix.
        shown: the table's `readable` form, for stem.md and stem.tex; None: the frame itself with three decimals.
    """
    stem = Path(stem)
    shown = (frame if shown is None else shown).map(
        lambda cell: f"{cell:.3f}" if isinstance(cell, float) else str(cell)
    )
    texts = {
        "csv": frame.to_csv(index=False, float_format="%.6f"),
        "md": _markdown(shown, caption),
        "tex": _latex(shown, caption, stem.name),
    }
    for suffix, text in texts.items():
        with atomic(stem.with_name(f"{stem.name}.{suffix}")) as path:
            path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _markdown(shown: pd.DataFrame, caption: str) -> str:
    flat = shown.set_axis([markdown(" ".join(_levels(column))) for column in shown.columns], axis=1)
    sides = ["right" if side == "r" else "left" for side in _sides(shown)]
    table = flat.map(markdown).to_markdown(index=False, disable_numparse=True, colalign=sides)
    return f"{markdown(caption)}\n\n{table}\n"


def _latex(shown: pd.DataFrame, caption: str, name: str) -> str:
    escaped = shown.map(tex_cell)
    if shown.columns.nlevels > 1:
        escaped.columns = pd.MultiIndex.from_tuples([tuple(tex(level) for level in column) for column in shown.columns])
    else:
        escaped.columns = [tex(column) for column in shown.columns]
    long = len(shown) > LONGEST_FLOAT
    return escaped.style.hide(axis="index").to_latex(
        hrules=True,
        caption=tex(caption),
        label=f"tab:{name}",
        column_format="".join(_columns(shown)),
        multicol_align="c",
        environment="longtable" if long else "table",
        position_float=None if long else "centering",
    )


def _sides(shown: pd.DataFrame) -> list[str]:
    """Alignment of every column: r for numbers, l for words."""
    number = re.compile(r"([+−-]?\d+(\.\d+)?|–)?")
    return ["r" if all(number.fullmatch(cell) for cell in shown[column]) else "l" for column in shown.columns]


def _columns(shown: pd.DataFrame) -> list[str]:
    """LaTeX's column types: the sides, but columns of long texts break their lines."""
    long = [shown[column].str.len().max() > LONGEST_LINE for column in shown.columns]
    return [r"p{0.25\linewidth}" if wide else side for wide, side in zip(long, _sides(shown), strict=True)]


def _levels(column: str | tuple[str, ...]) -> list[str]:
    return [level for level in (column if isinstance(column, tuple) else (column,)) if level]


def _decimal(value: float, sign: str = "-") -> str:
    return f"{round(value, 1) + 0.0:{sign}.1f}".replace("-", "−").replace("inf", "∞")


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.1f}"
