"""The smoothed detector of `oodcert certify`: its settings, its evidence, its table and what the terminal shows."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import oodcert
from oodcert.cli.certify import BOUNDS
from oodcert.cli.certify_settings import CertifySettings
from oodcert.cli.guaranteed_table import caption, guaranteed_table, readable, summary
from oodcert.data.imageset import ImageSet
from oodcert.models.detector import Detector
from oodcert.reporting.tables.writing import write_table

ALONE = {"n": 10_000, "alpha": 0.001, "bounds": None, "sampling": "fixed"}  # options with their defaults
OUTPUTS = tuple(f"guaranteed.{kind}" for kind in ("csv", "md", "tex", "pdf", "png"))


def settings(options: argparse.Namespace, detector: Detector) -> dict[str, Any]:
    """What decides the certificate of a smoothed detector, as JSON values."""
    bounds = options.bounds or BOUNDS[: 1 if detector.unbounded else None]
    return {"alpha": options.alpha, "bounds": list(dict.fromkeys(bounds)), "sampling": options.sampling}


def evidence_rows(
    detector: Detector,
    images: ImageSet,
    sigma: float,
    settings: CertifySettings,
    id_rows: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Certifies images.

    Args:
        detector: what is smoothed.
        images: a set, or some of its images.
        sigma: of the noise.
        settings: all that decides the results.
        id_rows: None, or evidence of the ID set at all sigmas, against which adaptive sampling stops.

    Returns:
        Rows of `oodcert.certify`.
    """
    keys = ("radii", "n", "alpha", "bounds", "sampling", "seed", "batch_size", "device", "precision")
    return oodcert.certify(
        detector,
        torch.from_numpy(images.floats()),
        sigma,
        decision_thresholds=None if id_rows is None else id_rows[id_rows["sigma"] == sigma],
        ids=images.ids,
        name=f"certify/{images.name}",
        **{key: getattr(settings, key) for key in keys},
    )


def network_calls(rows: pd.DataFrame) -> int:
    """The network calls that evidence rows took."""
    return int(rows.drop_duplicates(["sigma", "image"])["n"].sum())


def conclude(rows: Mapping[str, pd.DataFrame], settings: CertifySettings, sizes: Mapping[str, int], out: Path) -> str:
    """Writes table and figure.

    Args:
        rows: set -> its evidence, the ID set first.
        settings: all that decides the results.
        sizes: set -> number of its images.
        out: the folder.

    Returns:
        What the terminal shows.
    """
    from oodcert.reporting.figures.guaranteed import guaranteed
    from oodcert.reporting.figures.style import save

    id_rows, *ood_rows = rows.values()
    table = guaranteed_table(id_rows, dict(zip([*rows][1:], ood_rows, strict=True)), settings.confidence)
    write_table(table, caption(settings, sizes), out / "guaranteed", readable(table))
    save(guaranteed(summary(table)), out / "guaranteed", dpi=200)
    shown = readable(summary(table)).to_string(index=False)
    return (
        f"Guaranteed of the detector of the median or mean score over {settings.n} noisy passes a query, "
        f"with a confidence of {100 * settings.confidence:g} %, in %:\n{shown}\n"
        f"Every set, and the figure: {out / 'guaranteed'}.csv, .md, .tex, .pdf, .png"
    )
