"""Guaranteed AUC against the l2 radius: a panel per sigma, a line per bound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from oodcert.config.models import FigureSettings
from oodcert.reporting.figures.style import LOOKS, colours, drawn, panels, style

SETTINGS = FigureSettings(context="paper", palette="colorblind", dpi=200)  # of figures outside a run

Looks = Mapping[str, Mapping[str, Any]]  # bound -> how matplotlib draws its line


def bound_looks(bounds: Iterable[str]) -> Looks:
    """Colour, dash and marker of each bound's line."""
    inks = colours(bounds, SETTINGS)
    return {bound: {"color": ink, **look} for (bound, ink), look in zip(inks.items(), LOOKS, strict=False)}


def draw_bounds(axes: Axes, table: pd.DataFrame, looks: Looks) -> None:
    """Draws a line per bound of a table with the columns bound, radius and auc, and chance."""
    for bound, look in looks.items():
        curve = table[table["bound"] == bound]
        axes.plot(curve["radius"], curve["auc"], **look, label=bound)
    axes.axhline(0.5, color="0.7", linewidth=0.8, zorder=0, label="chance")
    axes.set_ylim(-0.03, 1.03)


def guaranteed(table: pd.DataFrame) -> Figure:
    """The figure of a table with a row per sigma x bound x radius: auc in [0, 1], of one set, at one confidence."""
    looks = bound_looks(list(table["bound"].unique()))
    with style(SETTINGS):
        figure, grid = panels(table["sigma"].nunique(), height=2.4)
        for axes, (sigma, of_sigma) in zip(grid, table.groupby("sigma"), strict=True):
            draw_bounds(axes, of_sigma, looks)
            axes.set_title(f"σ = {sigma:g}")
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(looks) + 1)
        figure.supxlabel("ℓ₂ radius R of the perturbation")
        of, confidence = drawn(table["set"].iloc[0]), 100 * table["confidence"].iloc[0]
        figure.supylabel(f"guaranteed AUC ({of}), {confidence:g} % confidence")
    return figure
