"""The ablation of the authors' code: each flag's largest effect, from their value to the sound one."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from oodcert.authors_code.flags import ALL
from oodcert.config.models import Config
from oodcert.evidence.store import Evidence
from oodcert.reporting.display_names import label
from oodcert.reporting.figures.style import INK, WIDTH, Look, colours, new_figure, style
from oodcert.reporting.tables.ablation import ablation_table, measure_label, shown

ROW = 0.26  # inches
MARKER: Look = {"marker": "o", "linestyle": ""}


def ablation(evidence: Evidence, config: Config) -> Figure:
    """A line per flag, from the value of the authors' code (hollow) to that with the flag corrected (filled), in %.

    The rows are those of the ablation table's readable form. A flag without a value on either side has no line.

    Args:
        evidence: evaluation -> its rows.
        config: the run's.

    Returns:
        The figure.
    """
    rows = shown(ablation_table(evidence, config))
    with style(config.figures):
        figure = new_figure(WIDTH, ROW * len(rows) + 0.9)
        axes = figure.subplots()
        palette = colours(config.methods, config.figures)
        for place, values in rows.iterrows():
            colour, ends = palette[values["method"]], 100 * values[["authors_code", "sound"]].astype(float)
            axes.plot(ends, [place, place], color=colour, linewidth=2, alpha=0.5, zorder=1)
            axes.plot(ends["authors_code"], place, color=colour, markerfacecolor="white", **MARKER)
            axes.plot(ends["sound"], place, color=colour, **MARKER)
        axes.set_yticks(range(len(rows)), [_flag(values) for _, values in rows.iterrows()])
        right = axes.secondary_yaxis("right")
        right.set_yticks(range(len(rows)), [_what(values) for _, values in rows.iterrows()])
        for side in (axes, right):
            side.tick_params(axis="y", length=0)
        right.spines["right"].set_visible(False)
        alone = int((rows["flag"] != ALL).sum())
        axes.axhline(alone - 0.5, color="0.7", linewidth=0.8)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        highest = np.nanmax([100, *(100 * rows[["authors_code", "sound"]].to_numpy(float)).ravel()])
        axes.set_xlim(-3, 1.03 * highest)
        axes.grid(axis="y", color="0.93", zorder=0)
        axes.set_axisbelow(True)
        axes.set_xlabel("in %")
        handles = [
            Line2D([], [], color=INK, markerfacecolor="white", label="authors' code", **MARKER),
            Line2D([], [], color=INK, label="with this flag corrected", **MARKER),
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _flag(values: pd.Series) -> str:
    return "all flags" if values["flag"] == ALL else f"{values['flag']} {values['name']}"


def _what(values: pd.Series) -> str:
    return f"{label(values['method'])}: {measure_label(values['measure'])}"
