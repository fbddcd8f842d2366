"""The table of `oodcert certify`: guaranteed metrics at every sigma, bound and radius, a row a set."""

import pandas as pd

from oodcert.statistics.metrics import METRICS, guaranteed_metrics

KEYS = ["sigma", "bound", "radius"]
DRAWS = {
    "fixed": "n = {} draws an image",
    "adaptive": "n ≤ {} draws an image (adaptive: until its part in the guaranteed AUC is settled)",
}


def guaranteed_table(inside, outside):
    """A row per sigma x bound x radius x set: guaranteed auc, aupr, fpr95; several sets end with their "average".

    inside: rows of `oodcert.certify` of the ID images, of any sigmas; outside: the same of OOD images, by set name.
    """
    frames = [
        guaranteed_metrics(inside[inside["sigma"] == sigma], part).assign(sigma=sigma, set=name)
        for name, rows in outside.items()
        for sigma, part in rows.groupby("sigma")
    ]
    table = pd.concat(frames, ignore_index=True)
    if len(outside) > 1:
        average = table.groupby(KEYS, as_index=False)[list(METRICS)].mean().assign(set="average")
        table = pd.concat([table, average], ignore_index=True)
    order = list(inside["bound"].unique())
    ranked = table.sort_values(
        KEYS, key=lambda part: part.map(order.index) if part.name == "bound" else part, kind="stable"
    )
    return ranked[[*KEYS, "set", *METRICS]].reset_index(drop=True)


def readable(table):
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


def summary(table):
    """The rows that a terminal shows: the average over the sets where there is one."""
    return table[table["set"] == table["set"].iloc[-1]]


def caption(settings, sizes):
    """What the numbers mean. sizes: images by set, the ID set first."""
    (inside, count), *outside = sizes.items()
    return (
        f"Guaranteed detection by {settings['network']} with the score {settings['score']}, in %: no perturbation of "
        "the OOD images within the l2 radius R makes AUC or AUPR lower or FPR95 higher. "
        f"ID: {inside} ({count} images); OOD: {', '.join(f'{name} ({size})' for name, size in outside)}. "
        f"{DRAWS[settings['sampling']].format(settings['n'])}, each bound with error probability "
        f"α = {settings['alpha']:g}, seed {settings['seed']}, network in {settings['precision']}."
    )
