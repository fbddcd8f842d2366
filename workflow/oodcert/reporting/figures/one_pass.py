"""What each certificate guarantees at which radius: of a detector of many passes a query, and of one pass."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from oodcert.config.models import Config
from oodcert.evidence.store import Evidence
from oodcert.reporting.display_names import label
from oodcert.reporting.figures.style import INK, LOOKS, Look, colours, panels, style
from oodcert.reporting.tables.one_pass import BOUND, one_pass_table
from oodcert.reporting.tables.values import guaranteed_l2_table

ONE_PASS: Look = {"linestyle": ":", "marker": "^"}
COMPARED = ("percentile", "cdf")


def one_pass(evidence: Evidence, config: Config) -> Figure:
    """Certified AUC against the l2 radius, averaged over the OOD sets, a panel per method.

    It is drawn at the first sigma of one_pass that certify_l2 has too. The legend says how many passes a query and an
    image of the certificate take.

    Args:
        evidence: evaluation -> its rows.
        config: the run's, with settings for one_pass.

    Returns:
        The figure.
    """
    settings, certify = config.evaluation.one_pass, config.evaluation.certify_l2
    assert settings is not None, "without settings the figure is not drawn"
    sigma = settings.sigmas[0]
    only = config.changed(evaluation={key: {"sigmas": (sigma,)} for key in ("certify_l2", "one_pass")})
    averages = guaranteed_l2_table(evidence, only).query("set == 'average'")
    one = one_pass_table(evidence, only).groupby(["method", "radius"])["auc"].mean()
    looks = dict(zip([bound for bound in COMPARED if bound in certify.bounds], LOOKS, strict=False))
    with style(config.figures):
        figure, grid = panels(len(config.methods), height=1.9, extra=0.75)
        for axes, (method, colour) in zip(grid, colours(config.methods, config.figures).items(), strict=True):
            curves = averages[averages["method"] == method].pivot(index="radius", columns="bound", values="auc")
            for bound, look in looks.items():
                if bound in curves:  # a score without a range has no mean bound
                    axes.plot(curves.index, curves[bound], color=colour, **look)
            axes.plot(one[method].index, one[method], color=colour, **ONE_PASS)
            axes.axhline(0.5, color="0.7", linewidth=0.8, zorder=0)
            axes.set_title(label(method))
            axes.set_ylim(-0.03, 1.03)
            axes.locator_params(axis="x", nbins=4)
        many, few = f"{certify.n} passes a query", f"1 pass a query, {settings.draws} to certify an image"
        handles = [
            *(Line2D([], [], color=INK, **look, label=f"{label(bound)} ({many})") for bound, look in looks.items()),
            Line2D([], [], color=INK, **ONE_PASS, label=f"{BOUND} ({few})"),
            Line2D([], [], color="0.7", linewidth=0.8, label="chance"),
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=2, handlelength=3)
        figure.supxlabel(f"ℓ₂ radius R of the perturbation (σ = {sigma:g})")
        figure.supylabel("certified AUC, mean over OOD sets")
    return figure
