"""Guaranteed AUC against the l2 radius, a panel a sigma, a line a bound."""

from oodcert.figures.style import LOOKS, colours, panels, style

CONFIG = {"figures": {"context": "paper", "palette": "colorblind"}}


def guaranteed(table):
    """The figure of a table with a row per sigma x bound x radius: auc in [0, 1], of one set (column set)."""
    inks = colours({**CONFIG, "methods": list(table["bound"].unique())})
    looks = {bound: {"color": ink, **look} for (bound, ink), look in zip(inks.items(), LOOKS, strict=False)}
    with style(CONFIG):
        figure, grid = panels(table["sigma"].nunique(), height=2.4)
        for axes, (sigma, part) in zip(grid, table.groupby("sigma"), strict=True):
            for bound, look in looks.items():
                curve = part[part["bound"] == bound]
                axes.plot(curve["radius"], curve["auc"], **look, label=bound)
            axes.axhline(0.5, color="0.7", linewidth=0.8, zorder=0, label="chance")
            axes.set_title(f"σ = {sigma:g}")
            axes.set_ylim(-0.03, 1.03)
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(looks) + 1)
        figure.supxlabel("ℓ₂ radius R of the perturbation")
        figure.supylabel(f"guaranteed AUC ({table['set'].iloc[0]})")
    return figure
