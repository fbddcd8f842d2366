"""Draws docs/bounds.png and writes the tables of docs/certificates.md, from the committed evidence and measurements."""

import json
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

import oodcert
from oodcert.evidence.store import read_evidence
from oodcert.reporting.display_names import label
from oodcert.reporting.figures.guaranteed import SETTINGS, bound_looks, draw_bounds
from oodcert.reporting.figures.style import WIDTH, new_figure, save, style
from oodcert.runtime.files import atomic

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "results" / "reference"
BOUNDS = ["percentile", "cdf", "gaussian", "lipschitz"]
DIGITS, DIGITS_SIGMA = ["plain", "prood", "distro"], 0.25
CIFAR, CIFAR_SIGMA = ["svhn", "textures", "cifar100"], 0.12
SHOWN = {"digits": [0.0, 0.25, 0.5, 1.0], "CIFAR-10": [0.0, 0.1, 0.25, 0.4]}  # radii in the table
GUARANTEES = "<!-- guarantees by docs/bounds.py -->\n", "<!-- end of guarantees -->"
START, END = "<!-- table by docs/bounds.py -->\n", "<!-- end -->"


def guaranteed_auc() -> pd.DataFrame:
    """A row per panel x bound x radius: data, panel, sigma, bound, radius, auc; of digits the mean over OOD sets.

    The bounds are compared with one another, so they are taken as they hold per image, without a confidence.
    """
    frames = []
    for method in DIGITS:
        rows = read_evidence([REFERENCE / "digits" / "evidence" / "certify_l2" / f"{method}.parquet"])
        rows = rows[rows["sigma"] == DIGITS_SIGMA]
        sets = {name: group for name, group in rows.groupby("set") if name != "id"}
        id_rows = rows[rows["set"] == "id"]
        each = pd.concat(oodcert.guaranteed_metrics(id_rows, one, confidence=None) for one in sets.values())
        mean = each.groupby(["bound", "radius"], as_index=False)["auc"].mean()
        frames.append(mean.assign(data="digits", panel=label(method), sigma=DIGITS_SIGMA))
    id_rows = read_evidence([REFERENCE / "cifar10" / "cifar10.parquet"])
    for name in CIFAR:
        ood_rows = read_evidence([REFERENCE / "cifar10" / f"{name}.parquet"])
        metrics = oodcert.guaranteed_metrics(id_rows, ood_rows, confidence=None)
        frames.append(metrics.assign(data="CIFAR-10", panel=label(name), sigma=CIFAR_SIGMA))
    return pd.concat(frames, ignore_index=True)


def draw(table: pd.DataFrame) -> Figure:
    """The figure: a row of panels for each data set, a line a bound."""
    looks = bound_looks(BOUNDS)
    with style(SETTINGS):
        figure = new_figure(WIDTH, 4.6)
        grid = figure.subplots(2, 3, sharey=True, sharex="row")
        for line, (data, rows) in zip(grid, table.groupby("data", sort=False), strict=True):
            for axes, (panel, curves) in zip(line, rows.groupby("panel", sort=False), strict=True):
                draw_bounds(axes, curves, looks)
                axes.set_title(f"{data}, {panel}")
            line[1].set_xlabel(f"ℓ₂ radius R of the perturbation (σ = {rows['sigma'].iloc[0]:g})")
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(looks) + 1)
        figure.supylabel("guaranteed AUC")
    return figure


def markdown(table: pd.DataFrame) -> str:
    """The figure's numbers at a few radii, in %."""
    rows = []
    for (data, panel), curves in table.groupby(["data", "panel"], sort=False):
        cells = curves.assign(auc=(100 * curves["auc"]).map("{:.1f}".format)).set_index(["bound", "radius"])["auc"]
        for bound in BOUNDS:
            values = {f"R {i}": f"{cells[bound, radius]} (R = {radius:g})" for i, radius in enumerate(SHOWN[data])}
            rows.append({"data": f"{data}, {panel}", "bound": bound, **values})
    shown = pd.DataFrame(rows)
    shown["data"] = shown["data"].mask(shown["data"] == shown["data"].shift(), "")
    header = ["", "bound", "no perturbation", "small", "larger", "largest"]
    return shown.set_axis(header, axis=1).to_markdown(index=False, disable_numparse=True)


def guarantees() -> str:
    """What benchmarks/guarantees.py measured, in %."""
    rows = pd.DataFrame(json.loads((REFERENCE / "benchmarks" / "guarantees.json").read_text())["guarantees"])
    names = ["method", "certificate", "calls_an_image", "passes_a_query"]
    wide = rows.assign(auc=(100 * rows["auc"]).map("{:.1f}".format)).pivot(index=names, columns="radius", values="auc")
    wide = wide.reset_index().sort_values(["method", "passes_a_query", "calls_an_image"], kind="stable")
    shown = pd.DataFrame(
        {
            "": wide["method"].map(label).mask(wide["method"] == wide["method"].shift(), ""),
            "certificate": wide["certificate"],
            "calls an image": wide["calls_an_image"].map("{:,.0f}".format),
            "passes a query": wide["passes_a_query"].map("{:,}".format),
            **{f"R = {radius:g}": wide[radius] for radius in wide.columns.drop(names)},
        }
    )
    return shown.to_markdown(index=False, disable_numparse=True)


def replaced(page: str, start: str, end: str, table: str) -> str:
    """The page with another table between two marks."""
    before, rest = page.split(start)
    return before + start + "\n" + table + "\n\n" + end + rest.split(end, 1)[1]


def main() -> None:
    """Draws the figure and writes the page's tables."""
    table = guaranteed_auc()
    save(draw(table), ROOT / "docs" / "bounds", dpi=200)
    page = ROOT / "docs" / "certificates.md"
    text = replaced(page.read_text(), *GUARANTEES, guarantees())
    with atomic(page) as temporary:
        temporary.write_text(replaced(text, START, END, markdown(table)))


if __name__ == "__main__":
    main()
