"""Guaranteed AUC against the l2 radius, a panel a sigma, a line a bound."""

from oodcert.figures.l2_bracket import STYLES
from oodcert.figures.style import colours, panels, style

LOOK = {"figures": {"context": "paper", "palette": "colorblind"}}
MARKERS = "osD^"


def guaranteed(table):
    """The figure of a table with a row per sigma x bound x radius: auc in [0, 1], of one set (column set)."""
    looks = zip(colours({**LOOK, "methods": list(table["bound"].unique())}).items(), STYLES, MARKERS, strict=False)
    looks = {bound: {"color": colour, "linestyle": dash, "marker": marker} for (bound, colour), dash, marker in looks}
    with style(LOOK):
        figure, grid = panels(table["sigma"].nunique(), height=2.4)
        for axes, (sigma, part) in zip(grid, table.groupby("sigma"), strict=True):
            for bound, look in looks.items():
                curve = part[part["bound"] == bound]
                axes.plot(curve["radius"], curve["auc"], **look, markersize=4, label=bound)
            axes.axhline(0.5, color="0.7", linewidth=0.8, zorder=0, label="chance")
            axes.set_title(f"σ = {sigma:g}")
            axes.set_ylim(-0.03, 1.03)
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(looks) + 1)
        figure.supxlabel("ℓ₂ radius R of the perturbation")
        figure.supylabel(f"guaranteed AUC ({table['set'].iloc[0]})")
    return figure
