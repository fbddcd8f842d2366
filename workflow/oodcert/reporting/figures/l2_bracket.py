"""The bracket of an l2 certificate: the guaranteed metric at one end, the attacked one at the other."""

from __future__ import annotations

from math import ceil

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from oodcert.config.models import Config
from oodcert.evidence.store import Evidence
from oodcert.reporting.display_names import label
from oodcert.reporting.figures.style import INK, LOOKS, MOST_COLUMNS, Look, colours, panels, style
from oodcert.reporting.tables.values import attacked_l2_table, guaranteed_l2_table, l2_metric

CHANCE = {"auc": 0.5, "fpr95": 0.95}
ATTACK: Look = {"color": INK, "linestyle": "-", "marker": "x"}


def l2_bracket(evidence: Evidence, config: Config) -> Figure:
    """AUC (FPR95 with adaptive sampling) against the l2 radius, averaged over the OOD sets, a panel per method.

    It is drawn at the first sigma of the l2 attack.

    Args:
        evidence: evaluation -> its rows.
        config: the run's.

    Returns:
        The figure.
    """
    sigma, metric = config.evaluation.attack_l2.sigmas[0], l2_metric(config)
    only = config.changed(evaluation={key: {"sigmas": (sigma,)} for key in ("certify_l2", "attack_l2")})
    guaranteed = guaranteed_l2_table(evidence, only).query("set == 'average'")
    attacked = attacked_l2_table(evidence, only).query("set == 'average'")
    looks = dict(zip(config.evaluation.certify_l2.bounds, LOOKS, strict=False))
    with style(config.figures):
        figure, grid = panels(len(config.methods), height=1.9, extra=0.75)
        for axes, (method, colour) in zip(grid, colours(config.methods, config.figures).items(), strict=True):
            curves = guaranteed[guaranteed["method"] == method].pivot(index="radius", columns="bound", values=metric)
            attack = attacked[attacked["method"] == method].set_index("radius")[metric]
            axes.fill_between(attack.index, curves["percentile"], attack, color=colour, alpha=0.2, linewidth=0)
            axes.plot(attack.index, attack, **ATTACK)
            for bound, look in looks.items():
                if bound in curves:  # a score without a range has no mean bound
                    axes.plot(curves.index, curves[bound], color=colour, **look)
            axes.axhline(CHANCE[metric], color="0.7", linewidth=0.8, zorder=0)
            axes.set_title(label(method))
            axes.set_ylim(-0.03, 1.03)
            axes.locator_params(axis="x", nbins=4)
        handles = [
            *(Line2D([], [], color=INK, **look, label=f"{label(bound)} bound") for bound, look in looks.items()),
            Line2D([], [], **ATTACK, label="attacked"),
            Patch(color=INK, alpha=0.2, linewidth=0, label="bracket"),
            Line2D([], [], color="0.7", linewidth=0.8, label="chance"),
        ]
        rows = ceil(len(handles) / MOST_COLUMNS)
        figure.legend(handles=handles, loc="outside upper center", ncols=ceil(len(handles) / rows), handlelength=3)
        figure.supxlabel(f"ℓ₂ radius R of the perturbation (σ = {sigma:g})")
        figure.supylabel(f"mean {metric.upper()} over OOD sets")
    return figure
