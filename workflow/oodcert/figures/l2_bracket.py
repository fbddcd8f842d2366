"""The bracket of an l2 certificate: guaranteed AUC below, attacked AUC above, a panel a method."""

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from oodcert.figures.style import INK, colours, panels, style
from oodcert.tables.labels import label
from oodcert.tables.values import attacked_l2_table, guaranteed_l2_table

STYLES = ["-", "--", "-.", (0, (1, 1))]


def l2_bracket(evidence, config):
    """AUC, averaged over the OOD sets, against the l2 radius, at the first sigma of the l2 attack."""
    sigma, bounds = config["evaluation"]["attack_l2"]["sigmas"][0], config["evaluation"]["certify_l2"]["bounds"]
    certify = {**config["evaluation"]["certify_l2"], "sigmas": [sigma]}
    only = {**config, "evaluation": {**config["evaluation"], "certify_l2": certify}}
    guaranteed = guaranteed_l2_table(evidence, only).query("set == 'average'")
    attacked = attacked_l2_table(evidence, config).query("set == 'average' and sigma == @sigma")
    dashes = dict(zip(bounds, STYLES, strict=False))
    with style(config):
        figure, grid = panels(len(config["methods"]), height=1.9, extra=0.75)
        for axes, (method, colour) in zip(grid, colours(config).items(), strict=True):
            curves = guaranteed[guaranteed["method"] == method].pivot(index="radius", columns="bound", values="auc")
            upper = attacked[attacked["method"] == method].set_index("radius")["auc"]
            both = curves.join(upper, how="inner")
            axes.fill_between(both.index, both["percentile"], both["auc"], color=colour, alpha=0.2, linewidth=0)
            axes.plot(upper.index, upper, color=INK, linestyle=":", marker="x")
            for bound, dash in dashes.items():
                axes.plot(curves.index, curves[bound], color=colour, linestyle=dash, marker=".")
            axes.axhline(0.5, color="0.7", linewidth=0.8, zorder=0)
            axes.set_title(label(method))
            axes.set_ylim(-0.03, 1.03)
        handles = [
            Line2D([], [], color=INK, linestyle=":", marker="x", label="attacked"),
            *(
                Line2D([], [], color=INK, linestyle=dash, marker=".", label=f"{label(bound)} bound")
                for bound, dash in dashes.items()
            ),
            Patch(color=INK, alpha=0.2, linewidth=0, label="bracket"),
            Line2D([], [], color="0.7", linewidth=0.8, label="chance"),
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 5), handlelength=2.4)
        figure.supxlabel(f"ℓ₂ radius R of the perturbation (σ = {sigma:g})")
        figure.supylabel("mean AUC over OOD sets")
    return figure
