"""Learning curves: the loss terms of every trained component against the epoch, a panel per component."""

from __future__ import annotations

from matplotlib.figure import Figure

from oodcert.config.models import Config
from oodcert.errors import InputError
from oodcert.evidence.store import Evidence
from oodcert.reporting.display_names import label
from oodcert.reporting.figures.style import LOOKS, Look, colours, panels, style

SKIPPED = ("learning_rate", "total")


def training(evidence: Evidence, config: Config) -> Figure:
    """A line per term of each component's loss: its mean over every epoch. Each panel has axes of its own.

    Args:
        evidence: evaluation -> its rows.
        config: the run's.

    Returns:
        The figure.

    Raises:
        InputError: if there are no learning curves.
    """
    curves = evidence.get("training")
    if curves is None:
        raise InputError("There are no learning curves: train the components first.")
    terms = curves.loc[~curves["term"].isin(SKIPPED), "term"].unique()
    looks: dict[str, Look] = {
        term: {"color": ink, "linestyle": look["linestyle"]}
        for (term, ink), look in zip(colours(terms, config.figures).items(), LOOKS * len(terms), strict=False)
    }
    components = curves["component"].unique()
    with style(config.figures):
        figure, grid = panels(len(components), height=1.5, extra=0.7, share="")
        for axes, component in zip(grid, components, strict=True):
            for term, look in looks.items():
                curve = curves[(curves["component"] == component) & (curves["term"] == term)]
                axes.plot(curve["epoch"], curve["value"], **look)
            axes.set_title(label(component))
            axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
            axes.locator_params(axis="x", nbins=4, integer=True)
            axes.locator_params(axis="y", nbins=4)
        handles = [axes.plot([], [], **look, label=label(term))[0] for term, look in looks.items()]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        figure.supxlabel("epoch")
        figure.supylabel("mean loss")
    return figure
