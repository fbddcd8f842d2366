"""Learning curves: the loss terms of every trained part against the epoch, a panel a part."""

from oodcert.errors import InputError
from oodcert.reporting.display_names import label
from oodcert.reporting.figures.style import LOOKS, colours, panels, style

SKIPPED = ("learning_rate", "total")


def training(evidence, config):
    """A line a term of each part's loss, its mean over every epoch, on axes of the panel's own."""
    curves = evidence.get("training")
    if curves is None:
        raise InputError("There are no learning curves: train the parts first.")
    terms = curves.loc[~curves["term"].isin(SKIPPED), "term"].unique()
    looks = {
        term: {"color": ink, "linestyle": look["linestyle"]}
        for (term, ink), look in zip(colours({**config, "methods": terms}).items(), LOOKS * len(terms), strict=False)
    }
    parts = curves["part"].unique()
    with style(config):
        figure, grid = panels(len(parts), height=1.5, extra=0.7, share="")
        for axes, part in zip(grid, parts, strict=True):
            for term, look in looks.items():
                curve = curves[(curves["part"] == part) & (curves["term"] == term)]
                axes.plot(curve["epoch"], curve["value"], **look)
            axes.set_title(label(part))
            axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
            axes.locator_params(axis="x", nbins=4, integer=True)
            axes.locator_params(axis="y", nbins=4)
        handles = [axes.plot([], [], **look, label=label(term))[0] for term, look in looks.items()]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        figure.supxlabel("epoch")
        figure.supylabel("mean loss")
    return figure
