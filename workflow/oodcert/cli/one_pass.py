"""The one-pass detector of `oodcert certify`: its settings, its evidence, its table and what the terminal shows."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from oodcert.certification.certified_roc import noisy_scores, roc_tables
from oodcert.certification.given import GivenImages
from oodcert.certification.joint_sampling import SmoothingSettings
from oodcert.certification.roc_bounds import Statement
from oodcert.cli.certify_settings import CertifySettings
from oodcert.cli.guaranteed_table import readable, summary
from oodcert.data.imageset import ImageSet
from oodcert.models.detector import Detector
from oodcert.reporting.tables.writing import write_table
from oodcert.runtime.files import atomic
from oodcert.statistics.metrics import METRICS

ALONE = {"n": 16, "population": False, "tries": 1}  # options with their defaults
OUTPUTS = (*(f"guaranteed.{kind}" for kind in ("csv", "md", "tex", "pdf", "png")), "roc.csv")
BOUND = "one pass"


def settings(options: argparse.Namespace, detector: Detector) -> dict[str, Any]:
    """What decides the certificate of a one-pass detector, as JSON values."""
    return {
        "n": 1 if options.population else options.n,
        "population": options.population,
        "tries": options.tries,
        "sampling": "fixed",
    }


def evidence_rows(
    detector: Detector,
    images: ImageSet,
    sigma: float,
    settings: CertifySettings,
    id_rows: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Scores of images under fresh noise, which are the draws that `oodcert.certified_roc` makes.

    Args:
        detector: what is certified.
        images: a set, or some of its images.
        sigma: of the noise.
        settings: all that decides the results.
        id_rows: not used.

    Returns:
        A row per image and draw: image, sigma, draw, score.
    """
    n, side = settings.n, "id" if images.name == settings.id else "ood"
    given = GivenImages(torch.from_numpy(images.floats()).to(settings.device), images.ids.tolist())
    noise = SmoothingSettings(
        sigma,
        n,
        alpha=0.5,  # no bound is computed here
        seed=settings.seed,
        batch_size=settings.batch_size,
        precision=settings.precision,
        name=f"{BOUND}/{side}",
    )
    scores = noisy_scores({BOUND: detector}, given, noise, None)[BOUND]
    columns = {"image": np.repeat(images.ids, n), "sigma": sigma, "draw": np.tile(np.arange(n), len(images))}
    return pd.DataFrame({**columns, "score": scores.ravel()})


def network_calls(rows: pd.DataFrame) -> int:
    """The network calls that evidence rows took."""
    return len(rows)


def conclude(rows: Mapping[str, pd.DataFrame], settings: CertifySettings, sizes: Mapping[str, int], out: Path) -> str:
    """Writes table, figure and certified ROC.

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

    table, curve = certified_tables(rows, settings)
    exact = table.assign(threshold=table["threshold"].map(repr))
    write_table(exact, caption(settings, sizes), out / "guaranteed", shown_table(table))
    save(guaranteed(summary(table)), out / "guaranteed", dpi=200)
    with atomic(out / "roc.csv") as path:
        curve.to_csv(path, index=False)
    text = shown_table(summary(table)).to_string(index=False)
    return (
        f"{_how(table, settings)}\nCertified with a confidence of {100 * settings.confidence:g} %, in %, of every "
        f"move of an OOD image by at most R:\n{text}\n"
        f"Every set, and the figure: {out / 'guaranteed'}.csv, .md, .tex, .pdf, .png; all thresholds: {out / 'roc.csv'}"
    )


def certified_tables(rows: Mapping[str, pd.DataFrame], settings: CertifySettings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The certified metrics and ROC.

    Args:
        rows: set -> its evidence, the ID set first.
        settings: all that decides the results.

    Returns:
        A row per sigma x radius x OOD set: certified auc, aupr, fpr95, the threshold of fpr95, and confidence; several
        sets end with their "average". And a row per sigma x radius x OOD set x threshold: fpr, at most, and tpr, at
        least. The metrics of all sets at one sigma and radius hold at once with the confidence.
    """
    id_rows, ood = rows[settings.id], settings.ood
    confidence = 1 - (1 - settings.confidence) / len(ood)
    statement = Statement(confidence, settings.population, tries=settings.tries)
    metrics: list[pd.DataFrame] = []
    curves: list[pd.DataFrame] = []
    for sigma, known in id_rows.groupby("sigma"):
        for name in ood:
            strange = rows[name][rows[name]["sigma"] == sigma]
            both = roc_tables(_draws(known), _draws(strange), sigma, settings.radii, statement)
            for found, frame in zip((metrics, curves), both, strict=True):
                found.append(frame.assign(sigma=sigma, set=name))
    table = pd.concat(metrics, ignore_index=True)
    if len(ood) > 1:
        values = table.groupby(["sigma", "radius"], as_index=False)[[*METRICS, "threshold"]].mean()
        table = pd.concat([table, values.assign(set="average")], ignore_index=True)
    table = table.sort_values(["sigma", "radius"], kind="stable", ignore_index=True)
    table = table.assign(bound=BOUND, confidence=settings.confidence)
    curve = pd.concat(curves, ignore_index=True)
    return (
        table[["sigma", "bound", "radius", "set", *METRICS, "threshold", "confidence"]],
        curve[["sigma", "radius", "set", "threshold", "fpr", "tpr"]],
    )


def shown_table(table: pd.DataFrame) -> pd.DataFrame:
    """The table as people read it: strings, metrics in %."""
    return readable(table).assign(Threshold=table["threshold"].map(repr).replace("-inf", "none"))


def caption(settings: CertifySettings, sizes: Mapping[str, int]) -> str:
    """What the numbers mean. sizes: images by set, the ID set first."""
    (id_name, count), *others = sizes.items()
    of = "the populations that these images are drawn from" if settings.population else "these images"
    tries = "" if settings.tries == 1 else f" in one of {settings.tries} tries"
    several = " (all OOD sets and their average at once)" if len(others) > 1 else ""
    return (
        f"Certified detection by {settings.network} with the score {settings.score}, in %. The detector takes "
        "one pass a query, through fresh Gaussian noise of standard deviation σ. It accepts a query whose score "
        "reaches the threshold, which at least 95 % of the ID queries do. Whatever moves each OOD image by at most R "
        "in l2 norm, without knowledge of the noise to come, AUC and AUPR are at least, and the share accepted"
        f"{tries} (FPR95) at most as given. This holds of {of}. "
        f"ID: {id_name} ({count} images); OOD: {', '.join(f'{name} ({size})' for name, size in others)}. "
        f"The numbers at one σ and R{several} hold with a confidence of {100 * settings.confidence:g} %, from "
        f"{settings.n} draws an image. Seed {settings.seed}, network in {settings.precision}."
    )


def _how(table: pd.DataFrame, settings: CertifySettings) -> str:
    """How the detector is used, a line a sigma."""
    lines = []
    for sigma, threshold in table.groupby("sigma")["threshold"].first().items():
        if np.isfinite(threshold):
            lines.append(
                f"One pass a query: add Gaussian noise of σ = {sigma:g} to the image, score it once, and accept it as "
                f"in-distribution if the score {settings.score} is at least {threshold!r}."
            )
        else:
            more = "Give more images" if settings.population else "Raise --n, or give more images"
            lines.append(
                f"σ = {sigma:g}: so few ID draws certify no threshold at which 95 % of the ID queries are accepted. "
                f"{more}."
            )
    return "\n".join(lines)


def _draws(rows: pd.DataFrame) -> np.ndarray:
    """Scores [N, m] of a set's images."""
    return rows.pivot(index="image", columns="draw", values="score").to_numpy()
