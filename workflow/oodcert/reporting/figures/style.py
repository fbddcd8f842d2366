"""What all figures share: style, colours, panels, and how they are saved."""

from io import BytesIO
from math import ceil

import matplotlib
import seaborn
from matplotlib.figure import Figure

from oodcert.errors import InputError
from oodcert.runtime.files import atomic

INK = "0.25"  # grey of what belongs to no method
WIDTH = 7.2  # inches, of a figure in the context "paper"
MOST_COLUMNS = 5
LIGHTEST = 0.5  # relative luminance of a line that is still seen on white
SHADE = 0.6  # of a colour that comes a second time
LOOKS = [  # of the bounds' lines, told apart without colour
    {"linestyle": "-", "marker": "o"},
    {"linestyle": "--", "marker": "s"},
    {"linestyle": "-.", "marker": "D"},
    {"linestyle": ":", "marker": "^"},
]


def style(config):
    """Context manager under which every figure is drawn: fonts, lines and axes of config["figures"]["context"]."""
    context = seaborn.plotting_context(config["figures"]["context"])
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
            "font.family": "DejaVu Sans",
        }
    )


def colours(config):
    """The colour of every method, the same in all figures: dict from method to RGB, in the palette's order.

    Colours too light for a line on white (yellow, pink) are darkened. Where the methods outnumber the colours, these
    come again in a darker shade. Raises InputError where the palette is unknown.
    """
    name = config["figures"]["palette"]
    try:
        palette = [_darkened(colour) for colour in seaborn.color_palette(name)]
    except ValueError as error:
        raise InputError(f"figures.palette: {name!r} is no palette of seaborn's; `colorblind` is one.") from error
    found = {}
    for index, method in enumerate(config["methods"]):
        round_, place = divmod(index, len(palette))
        found[method] = tuple(SHADE**round_ * channel for channel in palette[place])
    return found


def _darkened(colour):
    luminance = sum(weight * channel**2.2 for weight, channel in zip((0.2126, 0.7152, 0.0722), colour, strict=True))
    factor = (LIGHTEST / max(luminance, LIGHTEST)) ** (1 / 2.2)
    return tuple(factor * channel for channel in colour)


def new_figure(width, height):
    """An empty figure; width and height in inches, for the fonts of the context "paper", and larger for others."""
    scale = matplotlib.rcParams["font.size"] / seaborn.plotting_context("paper")["font.size"]
    return Figure(figsize=(width * scale, height * scale), layout="constrained")


def panels(count, height, extra=0.5, share="xy"):
    """A figure with `count` panels in at most 5 columns, and a list of the panels.

    height: inches of one row of panels; extra: inches for titles and legend; share: the axes that all panels share.
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


def save(figure, stem, dpi):
    """Writes stem.pdf (vector, fonts embedded) and stem.png, each atomically, the same bytes at every call."""
    metadata = {"pdf": {"CreationDate": None}, "png": {"Software": None}}
    for kind, entries in metadata.items():
        drawn = BytesIO()  # matplotlib's own error on a full disk says nothing of it
        with matplotlib.rc_context({"pdf.fonttype": 42}):
            figure.savefig(drawn, format=kind, dpi=dpi, metadata=entries)
        with atomic(f"{stem}.{kind}") as path:
            path.write_bytes(drawn.getbuffer())
