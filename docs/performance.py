"""Writes the tables of docs/performance.md, from what the benchmarks measured and the paper's config."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from oodcert.config.load import read_configs
from oodcert.execution import cost
from oodcert.runtime.files import atomic

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/performance.md"
MEASURED = ROOT / "results/reference/benchmarks"
RATES = {"classifier": 30_000, "discriminator": 60_000, "denoiser": 10_000}  # images a second of a GPU: assumed
SIGMA = 0.12
TABLE = re.compile(r"(<!-- table (\w+) by docs/performance.py -->\n).*?(<!-- end -->)", re.DOTALL)
TOTALS = sorted(path.stem for path in MEASURED.glob("total*.json"))  # of profiles and sets of bounds


def record(name: str) -> dict[str, Any]:
    """What a benchmark measured."""
    return json.loads((MEASURED / f"{name}.json").read_text())


def runs() -> pd.DataFrame:
    """What was measured where, a row per benchmark."""
    rows = []
    for name in ("certify", *TOTALS, "interval", "attack", "train", "run", "memory", "choices", "adaptive"):
        one = record(name)
        machine = one["machine"]
        rows.append(
            {
                "command": f"`{one['command'].split(' --out')[0]}`",
                "machine": f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} torch thread",
                "torch": one["packages"]["torch"],
                "commit": one["commit"][:7],
            }
        )
    return pd.DataFrame(rows)


def certify() -> pd.DataFrame:
    """`certify` against the bare network and the loop, by network and batch size."""
    rows = pd.DataFrame(record("certify")["overhead"])
    return pd.DataFrame(
        {
            "network": rows["network"],
            "batch": rows["batch"],
            "certify, images/s": rows["certify_per_s"].map("{:,.0f}".format),
            "bare network at its best": rows["best_per_s"].map("{:,.0f}".format),
            "of best (≥ 0.9)": rows["of_best"].map("{:.2f}".format),
            "over eager": rows["over_eager"].map("{:.2f}".format),
            "noise": (100 * rows["noise"]).map("{:.0f} %".format),
        }
    )


def total() -> pd.DataFrame:
    """The complete certificate table in all steps."""
    rows = []
    for name in TOTALS:
        one = record(name)
        settings = one["settings"]
        for table, steps in pd.DataFrame(one["total"]).groupby("table", sort=False):
            factors = dict(zip(steps["step"], steps["factor"], strict=True))
            rows.append(
                {
                    **of_total(settings),
                    "methods": f"{steps['methods'].iloc[0]}, {table}",
                    "images a set": settings["images"],
                    "straightforward, s": f"{steps['seconds'].iloc[0]:.0f}",
                    "batch and layout": f"{factors['one at a time']:.2f}",
                    "sharing": f"{factors['all at once']:.2f}",
                    "adaptive": f"{factors['adaptive']:.2f}",
                    "together (≥ 12)": f"{steps['factor_so_far'].iloc[-1]:.1f}",
                    "network's share": f"{steps['network_seconds'].iloc[-1] / steps['seconds'].iloc[-1]:.2f}",
                }
            )
    return pd.DataFrame(rows)


def of_total(settings: dict[str, Any]) -> dict[str, str]:
    """The first cells of a row on a complete table."""
    return {
        "profile": settings["profile"],
        "bounds": "all" if len(settings["bounds"]) > 1 else settings["bounds"][0],
    }


def sigmas() -> pd.DataFrame:
    """The complete table by noise level."""
    rows = []
    for name in TOTALS:
        one = record(name)
        for table, steps in pd.DataFrame(one["steps"]).groupby("table", sort=False):
            first, *_, last = (rows_of_step for _, rows_of_step in steps.groupby("step", sort=False))
            factors = first["seconds"].to_numpy() / last["seconds"].to_numpy()
            levels = {f"σ = {sigma:g}": f"{factor:.1f}" for sigma, factor in zip(first["sigma"], factors, strict=True)}
            rows.append({**of_total(one["settings"]), "methods": table, **levels})
    return pd.DataFrame(rows).fillna("")


def draws() -> pd.DataFrame:
    """Of the methods that share a pass: how many draws an image takes, of n."""
    rows = []
    for name in TOTALS:
        one = record(name)
        settings = one["settings"]
        for row in one["draws"]:
            if "," in row["methods"]:
                rows.append(
                    {
                        **of_total(settings),
                        "behind the denoiser": row["methods"],
                        "images": row["side"],
                        "of the pass": f"{100 * row['pass'] / settings['n']:.0f} %",
                        "of a method by itself": f"{100 * row['method'] / settings['n']:.0f} %",
                    }
                )
    return pd.DataFrame(rows)


def interval() -> pd.DataFrame:
    """Interval bounds against forward passes."""
    rows = pd.DataFrame(record("interval")["interval"])
    return pd.DataFrame(
        {
            "network": rows["network"],
            "batch": rows["batch"],
            "forward pass, ms": rows["forward_ms"].map("{:.2f}".format),
            "bounds, ms": rows["bounds_ms"].map("{:.2f}".format),
            "ratio (limit 2, ≤ 2.3)": rows["ratio"].map("{:.2f}".format),
        }
    )


def attack() -> pd.DataFrame:
    """An iteration of Auto-PGD."""
    rows = pd.DataFrame(record("attack")["apgd"])
    return pd.DataFrame(
        {
            "network": rows["network"],
            "norm": rows["norm"],
            "images": rows["images"],
            "iteration, ms": rows["oodcert_ms"].map("{:.2f}".format),
            "over the package": rows["ratio"].map("{:.2f}".format),
            "over forward and backward (limit 1)": rows["over_bare"].map("{:.2f}".format),
        }
    )


def train() -> pd.DataFrame:
    """Training against a bare loop."""
    rows = pd.DataFrame(record("train")["train"])
    return pd.DataFrame(
        {
            "network": rows["network"],
            "batch": rows["batch"],
            "oodcert, images/s": rows["oodcert_per_s"].map("{:,.0f}".format),
            "bare loop, images/s": rows["bare_per_s"].map("{:,.0f}".format),
            "ratio (limit 1)": rows["ratio"].map("{:.2f}".format),
        }
    )


def run() -> pd.DataFrame:
    """Where the core-seconds of a run went."""
    rows = pd.DataFrame(record("run")["shares"])
    share = (100 * rows["share"]).map("{:.0f} %".format)
    return pd.DataFrame({"core-seconds of": rows["what"], "s": rows["seconds"].map("{:.0f}".format), "share": share})


def memory() -> pd.DataFrame:
    """Peak memory by draws, images and methods."""
    rows = pd.DataFrame(record("memory")["memory"])
    return pd.DataFrame(
        {
            "n": rows["n"].map("{:,}".format),
            "images": rows["images"],
            "methods": rows["methods"],
            "peak, MiB": rows["peak_mib"].map("{:.0f}".format),
            "growth, MiB": rows["growth_mib"].map("{:.1f}".format),
            "one image's draws, MiB": rows["draws_mib"].map("{:.1f}".format),
        }
    )


def noise() -> pd.DataFrame:
    """Generators of noise."""
    rows = pd.DataFrame(record("choices")["noise"])
    return pd.DataFrame({"generator": rows["generator"], "ns a value": rows["ns"].map("{:.1f}".format)})


def choices() -> pd.DataFrame:
    """Networks as they are run here, and otherwise."""
    rows = pd.DataFrame(record("choices")["networks"])
    return pd.DataFrame(
        {
            "network": rows["network"],
            "other choice": rows["other choice"],
            "as it is, µs an image": rows["us"].map("{:.2f}".format),
            "otherwise": rows["other_us"].map("{:.2f}".format),
            "ratio": rows["ratio"].map("{:.2f}".format),
        }
    )


def paper() -> pd.DataFrame:
    """Hours of the paper's l2 certificates for one ID set and one sigma, at RATES: as composed and all denoised."""
    config = read_configs([ROOT / "config/paper.yaml"])
    config = config.changed(evaluation={"certify_l2": {"sigmas": (SIGMA,)}})
    methods, rows = config.methods, []
    denoised = {name: replace(spec, denoiser=True) for name, spec in methods.items() if not spec.denoiser}
    for label, specs in (("as composed", methods), ("all denoised", denoised)):
        passes = cost.passes(cost.jobs(config.changed(methods=specs)))
        passes = passes[passes["rule"] == "certify_l2"]
        rates = {name: rate for name, rate in RATES.items() if name in {*passes["component"], "classifier"}}
        hours = cost.hours(passes, rates)
        denoising = hours[passes["component"] == "denoiser"]  # of methods that share it, once
        alone = denoising.max() * sum(spec.denoiser for spec in specs.values())
        rows.append(
            {
                "methods": f"{len(specs)}, {label}",
                "denoiser, each by itself": f"{alone:.1f} h",
                "denoiser, shared": f"{denoising.sum():.1f} h",
                "other networks": f"{hours.sum() - denoising.sum():.1f} h",
                "each by itself": f"{hours.sum() - denoising.sum() + alone:.1f} h",
                "shared": f"{hours.sum():.1f} h",
            }
        )
    return pd.DataFrame(rows)


TABLES = {
    one.__name__: one
    for one in (runs, certify, total, sigmas, draws, interval, attack, train, run, memory, noise, choices, paper)
}


def filled(text: str) -> str:
    """The page's text with every table as it follows from what was measured."""
    return TABLE.sub(lambda match: f"{match[1]}\n{markdown(TABLES[match[2]]())}\n\n{match[3]}", text)


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown has it."""
    return table.astype(str).to_markdown(index=False, disable_numparse=True)


def main() -> None:
    """Writes the page's tables."""
    text = filled(PAGE.read_text())
    with atomic(PAGE) as temporary:
        temporary.write_text(text)


if __name__ == "__main__":
    main()
