"""Score distributions: in-distribution against every OOD set, a panel per method."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from oodcert.config.models import Config
from oodcert.evidence.selection import rows_of_method, rows_of_set
from oodcert.evidence.store import Evidence
from oodcert.reporting.display_names import label
from oodcert.reporting.figures.style import INK, colours, panels, style
from oodcert.statistics.metrics import tpr_threshold

BINS = 30
SPELLING = {"msp": "MSP", "energy": "energy", "max_logit": "greatest logit", "atom": "−log p(outlier)"}
TALLEST = 0.88  # of the space between two rows


def scores(evidence: Evidence, config: Config) -> Figure:
    """Histograms of the clean scores, a row per set, with the threshold that accepts 95 % of the ID images (FPR95)."""
    names = ["id", *config.data.ood]
    with style(config.figures):
        figure, grid = panels(len(config.methods), height=0.34 * len(names) + 0.6, share="y")
        for axes, (method, colour) in zip(grid, colours(config.methods, config.figures).items(), strict=True):
            clean, spec = rows_of_method(evidence, "clean", method), config.methods[method]
            clean = clean[clean["set"].isin(names)]
            lowest, highest = clean["score"].min(), clean["score"].max()
            if not spec.is_unbounded:
                lowest, highest = 1 / config.data.num_classes, 1.0
            edges = np.linspace(lowest, highest, BINS + 1)
            for row, name in enumerate(reversed(names)):
                values = rows_of_set(clean, "clean", name)["score"].clip(lowest, highest).to_numpy()
                counts, _ = np.histogram(values, edges)
                heights = row + TALLEST * counts / counts.max()
                fill = colour if name == "id" else "0.72"
                axes.stairs(heights, edges, baseline=row, fill=True, color=fill)
                axes.stairs(heights, edges, baseline=row, color=INK, linewidth=0.5)
                if name == "id":
                    axes.axvline(tpr_threshold(values, tpr=0.95), color=INK, linestyle="--", linewidth=0.8)
            axes.set_title(label(method))
            axes.set_yticks(range(len(names)), [label(name) for name in reversed(names)], va="bottom")
            axes.set_xlim(lowest - 0.02 * (highest - lowest), highest + 0.02 * (highest - lowest))
            axes.set_xlabel(SPELLING[spec.score], fontsize="small")
            axes.set_ylim(0, len(names))
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
        figure.supxlabel("dashed: accepts 95 % of the ID images")
    return figure
