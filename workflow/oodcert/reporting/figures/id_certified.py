"""Certified in-distribution accuracy against the l2 radius, a panel per sigma."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from oodcert.config.models import Config
from oodcert.evidence.selection import rows_at, rows_of_method
from oodcert.evidence.store import Evidence
from oodcert.reporting.display_names import label
from oodcert.reporting.figures.style import MOST_COLUMNS, colours, panels, style

STYLES: list[str | tuple] = ["-", "--", "-.", (0, (1, 1)), (0, (4, 1, 1, 1, 1, 1))]


def certified_steps(rows: pd.DataFrame, end: float) -> tuple[np.ndarray, np.ndarray]:
    """The exact curve of certified accuracy.

    Args:
        rows: certify_id evidence of one method and sigma.
        end: radius up to which the curve is drawn.

    Returns:
        Radii and shares. A share holds at its radius, and left of it down to the one before.
    """
    counted = (rows["correct"] & (rows["prediction"] >= 0)).to_numpy()
    certified = np.sort(rows["radius"].to_numpy()[counted])
    radii = np.concatenate([[0.0], np.unique(certified[certified > 0]), [end]])
    return radii, (len(certified) - np.searchsorted(certified, radii, side="left")) / len(rows)


def id_certified(evidence: Evidence, config: Config) -> Figure:
    """Step curves from the certified radius of every image, a line per method."""
    sigmas, methods = config.evaluation.certify_id.sigmas, colours(config.methods, config.figures)
    chosen = {
        (method, sigma): rows_at(rows_of_method(evidence, "certify_id", method), "certify_id", "sigma", sigma)
        for method in methods
        for sigma in sigmas
    }
    with style(config.figures):
        figure, grid = panels(len(sigmas), height=2.5, extra=0.8, share="y")
        for axes, sigma in zip(grid, sigmas, strict=True):
            end = 1.05 * max(0.01, *(chosen[method, sigma]["radius"].max() for method in methods))
            for index, (method, colour) in enumerate(methods.items()):
                radii, shares = certified_steps(chosen[method, sigma], end)
                dash = STYLES[index % len(STYLES)]
                axes.step(radii, shares, where="pre", color=colour, linestyle=dash, label=label(method))
            axes.set_title(f"σ = {sigma:g}")
            axes.set_xlim(0, end)
            axes.set_ylim(-0.02, 1.02)
        columns = min(len(methods), MOST_COLUMNS)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=columns, handlelength=3)
        figure.supxlabel("certified ℓ₂ radius R")
        figure.supylabel("certified ID accuracy")
    return figure
