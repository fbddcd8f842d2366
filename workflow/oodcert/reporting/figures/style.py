"""What all figures share: style, colours, panels, and how they are saved."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import cache
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from oodcert.config.models import FigureSettings
from oodcert.errors import InputError
from oodcert.reporting.escaping import printable
from oodcert.runtime.files import atomic

INK = "0.25"  # grey of what belongs to no method
WIDTH = 7.2  # inches, of a figure in the context "paper"
MOST_COLUMNS = 5
LIGHTEST = 0.5  # relative luminance of a line that is still seen on white
FONT = "DejaVu Sans"
LONGEST_NAME = 40  # characters of a name in a figure
SHADE = 0.6  # of a colour that comes a second time
Colour = tuple[float, float, float]  # RGB in [0, 1]
Look = dict[str, Any]  # how a line is drawn, as keywords of matplotlib
LOOKS: list[Look] = [  # of the bounds' lines, told apart without colour
    {"linestyle": "-", "marker": "o"},
    {"linestyle": "--", "marker": "s"},
    {"linestyle": "-.", "marker": "D"},
    {"linestyle": ":", "marker": "^"},
]


def style(settings: FigureSettings) -> AbstractContextManager[None]:
    """The context manager under which every figure is drawn: fonts, lines and axes of the settings' context."""
    context = seaborn.plotting_context(settings.context)
    return matplotlib.rc_context(
        {
            **seaborn.axes_style("ticks"),
            **context,
            "lines.markersize": 0.7 * context["lines.markersize"],
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": INK,
            "figure.labelsize": "medium",
            "legend.frameon": False,
            "font.family": FONT,
            "text.parse_math": False,  # a name with $ in it is no formula
        }
    )


def colours(names: Iterable[str], settings: FigureSettings) -> dict[str, Colour]:
    """A colour for every name, in the palette's order. Methods have the same colours in all figures.

    Colours too light for a line on white (yellow, pink) are darkened. If the names outnumber the colours, these come
    again in a darker shade.

    Args:
        names: of what is drawn, such as the methods.
        settings: those of the figures, for their palette.

    Returns:
        Name -> colour (red, green, blue), each in [0, 1].

    Raises:
        InputError: if the palette is unknown.
    """
    name = settings.palette
    try:
        palette = [_darkened(colour) for colour in seaborn.color_palette(name)]
    except ValueError as error:
        raise InputError(f"figures.palette: {name!r} is no palette of seaborn's; `colorblind` is one.") from error
    by_name = {}
    for index, key in enumerate(names):
        round_, place = divmod(index, len(palette))
        red, green, blue = (SHADE**round_ * channel for channel in palette[place])
        by_name[key] = (red, green, blue)
    return by_name


def _darkened(colour: Colour) -> Colour:
    luminance = sum(weight * channel**2.2 for weight, channel in zip((0.2126, 0.7152, 0.0722), colour, strict=True))
    factor = (LIGHTEST / max(luminance, LIGHTEST)) ** (1 / 2.2)
    red, green, blue = (factor * channel for channel in colour)
    return red, green, blue


def drawn(name: str) -> str:
    """A name of any characters as a figure shows it.

    Args:
        name: such as that of a file.

    Returns:
        At most LONGEST_NAME of its characters; those that the font lacks as the escapes of a Python string.
    """
    short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    known = _characters()
    return printable("".join(one if ord(one) in known else one.encode("unicode_escape").decode() for one in short))


@cache
def _characters() -> frozenset[int]:
    """The code points that the font has."""
    return frozenset(get_font(findfont(FONT)).get_charmap())


def new_figure(width: float, height: float) -> Figure:
    """An empty figure. Width and height are in inches for the context "paper"; they grow with the fonts of others."""
    scale = matplotlib.rcParams["font.size"] / seaborn.plotting_context("paper")["font.size"]
    return Figure(figsize=(width * scale, height * scale), layout="constrained")


def panels(count: int, height: float, extra: float = 0.5, share: str = "xy") -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels in at most MOST_COLUMNS columns, and a list of the panels.

    Args:
        count: number of panels.
        height: inches of one row of panels.
        extra: inches for titles and legend.
        share: the axes that all panels share: "xy", "x", "y" or "".

    Returns:
        (figure, axes of each panel).
    """
    rows = ceil(count / MOST_COLUMNS)
    columns = ceil(count / rows)
    figure = new_figure(WIDTH, rows * height + extra)
    grid = figure.subplots(rows, columns, sharex="x" in share, sharey="y" in share, squeeze=False).ravel()
    for empty in grid[count:]:
        empty.remove()
    for axes in grid[max(0, count - columns) : count]:
        axes.xaxis.set_tick_params(labelbottom=True)
    return figure, list(grid[:count])


def save(figure: Figure, stem: str | Path, dpi: int) -> None:
    """Writes a figure as stem.pdf (vector, fonts embedded) and stem.png, each whole or not at all.

    Every call gives the same bytes.

    Args:
        figure: to be written.
        stem: path of the files without their suffix.
        dpi: resolution of the png file, in dots an inch.
    """
    metadata = {"pdf": {"CreationDate": None}, "png": {"Software": None}}
    for kind, entries in metadata.items():
        drawn = BytesIO()  # matplotlib's own error on a full disk says nothing of it
        with matplotlib.rc_context({"pdf.fonttype": 42, "text.parse_math": False}):
            figure.savefig(drawn, format=kind, dpi=dpi, metadata=entries)
        with atomic(f"{stem}.{kind}") as path:
            path.write_bytes(drawn.getbuffer())
