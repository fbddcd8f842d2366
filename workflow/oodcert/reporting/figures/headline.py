"""The headline number of every method, with its clean, guaranteed and adversarial means."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from oodcert.config.models import Config
from oodcert.evidence.store import Evidence
from oodcert.reporting.display_names import marked
from oodcert.reporting.figures.style import INK, WIDTH, Colour, colours, new_figure, style
from oodcert.reporting.tables.values import INGREDIENTS, PROTOCOLS, headline_table

TINTS = {"clean": 0.3, "guaranteed": 0.5, "adversarial": 0.7}  # share of white
THICK, THIN = 0.28, 0.18  # of the space of one method


def headline(evidence: Evidence, config: Config) -> Figure:
    """Horizontal bars in %: the mean of the nine ingredients, and below it the mean of each protocol's three."""
    table = headline_table(evidence, config).set_index("method")
    names = [marked(method, reliable) for method, reliable in table["reliable"].items()]
    table = 100 * table.drop(columns="reliable")
    with style(config.figures):
        figure = new_figure(WIDTH, 0.64 * len(table) + 0.8)
        axes = figure.subplots()
        for row, (method, colour) in enumerate(colours(config.methods, config.figures).items()):
            top = row - 0.5 * (THICK + 3 * THIN)
            _bar(axes, top, THICK, table.loc[method, "mean"], colour, weight="bold")
            for index, protocol in enumerate(PROTOCOLS):
                mean = table.loc[method, [f"{protocol}_{ingredient}" for ingredient in INGREDIENTS]].mean()
                tint = _tint(colour, TINTS[protocol])
                _bar(axes, top + THICK + index * THIN, THIN, mean, tint, weight="normal", size="x-small")
        axes.set_yticks(range(len(table)), names)
        axes.set_ylim(len(table) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, 100)
        axes.set_xlabel("mean of AUC, AUPR and 1 − FPR95, average over OOD sets, in %")
        handles = [Patch(color=INK, label="mean of all")]
        handles += [Patch(color=_tint(to_rgb(INK), TINTS[protocol]), label=protocol) for protocol in PROTOCOLS]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _bar(axes: Axes, top: float, height: float, value: float, colour: Colour, weight: str, size: str = "small") -> None:
    axes.barh(top, value, height=height, align="edge", color=[colour], edgecolor="white", linewidth=0.5)
    axes.annotate(
        f"{value:.1f}",
        (value, top + height / 2),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=size,
        fontweight=weight,
    )


def _tint(colour: Colour, white: float) -> Colour:
    red, green, blue = np.array(colour) * (1 - white) + white
    return red, green, blue
