"""The table of `oodcert certify`: guaranteed metrics at every sigma, bound and radius, a row a set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from oodcert.cli.certify_settings import CertifySettings
from oodcert.statistics.failing_bounds import most_failing, table_error
from oodcert.statistics.metrics import METRICS, guaranteed_metrics

KEYS = ["sigma", "bound", "radius"]
DRAWS = {
    "fixed": "n = {} draws an image",
    "adaptive": "n ≤ {} draws an image (adaptive: until its share in the guaranteed AUC has converged)",
}


def guaranteed_table(id_rows: pd.DataFrame, ood_rows: Mapping[str, pd.DataFrame], confidence: float) -> pd.DataFrame:
    """A row per sigma x bound x radius x set: guaranteed auc, aupr, fpr95; several sets end with their "average".

    The metrics of all sets at one sigma, bound and radius, and so their average, hold at once with the confidence that
    the last column gives.

    Args:
        id_rows: rows of `oodcert.certify` of the ID images, of any sigmas.
        ood_rows: the same of OOD images, by set name.
        confidence: of the metrics.

    Returns:
        The table; metrics are in [0, 1].
    """
    frames = [
        guaranteed_metrics(id_rows[id_rows["sigma"] == sigma], ood, confidence=confidence, sets=len(ood_rows)).assign(
            sigma=sigma, set=name
        )
        for name, rows in ood_rows.items()
        for sigma, ood in rows.groupby("sigma")
    ]
    table = pd.concat(frames, ignore_index=True)
    if len(ood_rows) > 1:
        average = table.groupby(KEYS, as_index=False)[list(METRICS)].mean().assign(set="average", confidence=confidence)
        table = pd.concat([table, average], ignore_index=True)
    order = list(id_rows["bound"].unique())
    ranked = table.sort_values(
        KEYS, key=lambda keys: keys.map(order.index) if keys.name == "bound" else keys, kind="stable"
    )
    return ranked[[*KEYS, "set", *METRICS, "confidence"]].reset_index(drop=True)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table as people read it: strings, metrics in %."""
    return pd.DataFrame(
        {
            "σ": table["sigma"].map("{:g}".format),
            "Bound": table["bound"],
            "R": table["radius"].map("{:g}".format),
            "OOD set": table["set"],
            **{metric.upper(): (100 * table[metric]).map("{:.1f}".format) for metric in METRICS},
        }
    )


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that a terminal shows: the average over the sets where there is one."""
    return table[table["set"] == table["set"].iloc[-1]]


def caption(settings: CertifySettings, sizes: Mapping[str, int]) -> str:
    """What the numbers mean. sizes: images by set, the ID set first."""
    (id_name, count), *others = sizes.items()
    return (
        f"Guaranteed detection by {settings.network} with the score {settings.score}, in %: no perturbation of "
        "the OOD images within the l2 radius R makes AUC or AUPR lower or FPR95 higher. "
        f"ID: {id_name} ({count} images); OOD: {', '.join(f'{name} ({size})' for name, size in others)}. "
        f"{DRAWS[settings.sampling].format(settings.n)}. {_statement(settings, [*sizes.values()])} "
        f"Seed {settings.seed}, network in {settings.precision}."
    )


def _statement(settings: CertifySettings, sizes: Sequence[int]) -> str:
    """What the metrics hold with, and how many images that costs."""
    alpha, confidence = settings.alpha, settings.confidence
    assert alpha is not None, "the smoothed detector has one"
    error = table_error(confidence, len(sizes) - 1)
    failing = [most_failing(count, alpha, error) for count in sizes]
    counted = f"{min(failing)}" if min(failing) == max(failing) else f"{min(failing)} to {max(failing)}"
    several = f" (all {len(sizes) - 1} OOD sets and their average at once)" if len(sizes) > 2 else ""
    return (
        f"The numbers at one σ, bound and R{several} hold with a confidence of {100 * confidence:g} %. Each bound by "
        f"itself fails with probability α = {alpha:g}, so {counted} bounds of a set, the worst choice, count as failed."
    )
