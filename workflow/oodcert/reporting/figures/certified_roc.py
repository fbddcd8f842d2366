"""The certified ROC of the detector that takes one pass a query: a panel per OOD set, a line per method."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from oodcert.certification.roc_bounds import certified_curve, roc_curve_bounds
from oodcert.config.models import Config
from oodcert.evidence.selection import rows_at, rows_of_method, rows_of_set
from oodcert.evidence.store import Evidence
from oodcert.reporting.display_names import label
from oodcert.reporting.figures.style import Look, colours, drawn, panels, style
from oodcert.reporting.tables.one_pass import draws_of, statement_of

DASHES = ("-", "--", ":", "-.")


def certified_roc(evidence: Evidence, config: Config) -> Figure:
    """Certified TPR against certified FPR, at the first sigma of one_pass and the smallest radius above 0.

    All points of a line hold at once with the confidence.

    Args:
        evidence: evaluation -> its rows.
        config: the run's, with settings for one_pass.

    Returns:
        The figure.
    """
    settings = config.evaluation.one_pass
    assert settings is not None, "without settings the figure is not drawn"
    sigma, radius = settings.sigmas[0], shown_radius(config)
    statement = statement_of(config, settings)
    looks: dict[str, Look] = {
        method: {"color": colour, "linestyle": DASHES[place % len(DASHES)]}
        for place, (method, colour) in enumerate(colours(config.methods, config.figures).items())
    }
    with style(config.figures):
        figure, grid = panels(len(config.data.ood), height=2.2, extra=0.9)
        for axes, name in zip(grid, config.data.ood, strict=True):
            for method, look in looks.items():
                rows = rows_at(rows_of_method(evidence, "one_pass", method), "one_pass", "sigma", sigma)
                known, strange = (draws_of(rows_of_set(rows, "one_pass", one)) for one in ("id", name))
                curve = certified_curve(roc_curve_bounds(known, strange, statement), radius / sigma, statement)
                axes.plot([1, *curve["fpr"]], [1, *curve["tpr"]], drawstyle="steps-pre", linewidth=1.2, **look)
            axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, zorder=0)
            axes.set_title(drawn(label(name)))
        handles = [Line2D([], [], **look, label=label(method)) for method, look in looks.items()]
        figure.legend(handles=handles, loc="outside upper center", ncols=5, handlelength=2.5)
        figure.supxlabel(f"certified FPR (σ = {sigma:g}, R = {radius:g})")
        figure.supylabel("certified TPR")
    return figure


def shown_radius(config: Config) -> float:
    """The radius that is drawn: the smallest one above 0, or 0 where there is no other."""
    return min((radius for radius in config.evaluation.certify_l2.radii if radius > 0), default=0.0)
