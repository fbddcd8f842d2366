"""Example images: clean, and noisy and denoised at every sigma."""

from __future__ import annotations

import textwrap
from itertools import groupby
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from oodcert.config.models import Config
from oodcert.data.npz import read_arrays
from oodcert.errors import InputError
from oodcert.evidence.store import Evidence
from oodcert.reporting.display_names import label
from oodcert.reporting.figures.style import new_figure, style

ARRAYS = ("clean", "noisy", "denoised", "sigmas", "names")
CELL = 0.68  # inches


def read_examples(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of denoised.npz.

    Args:
        path: of the file.

    Returns:
        The arrays by name.

    Raises:
        InputError: naming a file that is missing or corrupt.
    """
    try:
        arrays = read_arrays(path, ARRAYS)
        return {name: arrays[name] for name in ARRAYS}
    except (InputError, KeyError) as error:
        raise InputError(f"{path} is not a readable file of examples ({error}): delete it and run again.") from error


def denoised(evidence: Evidence, config: Config) -> Figure:
    """A grid with a column per example, set names on top. Rows: clean, then noisy and denoised for each sigma.

    Args:
        evidence: `denoised` holds arrays in [0, 1]: clean [N, C, H, W], noisy and denoised [S, N, C, H, W], sigmas [S],
            and names [N], the set of each example.
        config: the run's.

    Returns:
        The figure.

    Raises:
        InputError: if there are no examples.
    """
    images = evidence.get("denoised")
    if images is None:
        raise InputError("There are no denoised examples: compute denoised.npz first.")
    rows = [("clean", images["clean"])]
    for sigma, noisy, clear in zip(images["sigmas"], images["noisy"], images["denoised"], strict=True):
        rows += [(f"σ = {sigma:g}\nnoisy", noisy), ("denoised", clear)]
    names = images["names"].tolist()
    with style(config.figures):
        figure = new_figure(CELL * len(names) + 0.8, CELL * len(rows) + 0.6)
        grid = figure.subplots(len(rows), len(names), squeeze=False)
        for (title, row), row_axes in zip(rows, grid, strict=True):
            for image, axes in zip(row, row_axes, strict=True):
                pixels = np.clip(np.moveaxis(image, 0, -1), 0, 1)
                axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
            row_axes[0].set_ylabel(title, rotation=0, ha="right", va="center")
        for name, group in groupby(range(len(names)), key=names.__getitem__):
            first, *others = group
            width = 1 + len(others)
            text = textwrap.fill(label(name), 10 * width, break_long_words=False)
            grid[0, first].set_title(text, x=width / 2, fontsize="small" if others else "x-small")
        engine = figure.get_layout_engine()
        assert isinstance(engine, ConstrainedLayoutEngine)  # as new_figure makes it
        engine.set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    return figure
