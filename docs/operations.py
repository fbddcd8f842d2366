"""Draws docs/scaling.png and writes the table of docs/operations.md, from what was measured and the configs."""

import json
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from oodcert.config.load import read_configs
from oodcert.config.method_specs import computed_with
from oodcert.config.models import Config
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.execution import cost
from oodcert.execution.shards import portions, shards
from oodcert.reporting.figures.guaranteed import SETTINGS
from oodcert.reporting.figures.style import WIDTH, new_figure, save, style
from oodcert.runtime.files import atomic

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/operations.md"
MEASURED = ROOT / "results/reference/benchmarks/scaling.json"
RATES = {"classifier": 30_000, "discriminator": 60_000, "denoiser": 10_000}  # images a second of a GPU: assumed
EVALUATION, METHOD = "certify_l2", "distro"
START, END = "<!-- table by docs/operations.py -->\n", "<!-- end -->"


def paper() -> Config:
    """The config of the paper's profile."""
    return read_configs([ROOT / "config/paper.yaml"])


def hours(config: Config) -> pd.DataFrame:
    """A row per method and component, as of oodcert.execution.cost.passes, with hours: on one GPU at RATES.

    job: the first of the methods that are computed in it.
    """
    rows = cost.passes(cost.jobs(config))
    first = [computed_with(rule, job, config.methods)[0] for rule, job in zip(rows["rule"], rows["job"], strict=True)]
    return rows.assign(hours=cost.hours(rows, RATES), job=first)


def sizes(config: Config) -> str:
    """The table of a profile, a row per rule, in Markdown."""
    planned, rows = hours(config), []
    for rule, of_rule in planned.groupby("rule", sort=False):
        spec = EVALUATIONS.get(rule)
        methods = of_rule["job"].unique() if spec and spec.whole_batches else ()
        by_shard = [shards(config.changed(shards=64), rule, method) for method in methods]
        by_portion = [portions(config, rule, method) for method in methods]
        rows.append(
            {
                "rule": rule,
                "jobs": str(of_rule["job"].nunique()),
                "with shards: 64": sum(len(one) for phases in by_shard for one in phases.values()) or "not divided",
                "portions": sum(len(one) for phases in by_portion for one in phases.values()) or "",
                "GPU hours": f"{of_rule['hours'].sum():,.1f}",
                "of the longest job": f"{of_rule.groupby('job')['hours'].sum().max():,.1f}",
            }
        )
    rows.append({"rule": "all", "GPU hours": f"{planned['hours'].sum():,.0f}"})
    return pd.DataFrame(rows).fillna("").to_markdown(index=False, disable_numparse=True)


def modelled(shards: int, workers: int, computation: float, start: float, overhead: float) -> float:
    """Seconds of a run of so many shards: start of Snakemake, rounds of jobs, gathering."""
    return start + ceil(shards / workers) * (overhead + computation / shards) + overhead * (shards > 1)


def constants(runs: pd.DataFrame) -> tuple[float, float, float]:
    """(start, overhead, computation) of the model, in seconds: medians over the runs on one worker.

    start: of Snakemake with nothing to do. overhead: of a job beside its computation. computation: of all jobs.
    """
    alone = runs[runs["workers"] == 1]
    overhead = (alone["seconds"] - alone["idle_seconds"] - alone["computation_seconds"]) / alone["jobs"]
    computation = alone["computation_seconds"].median()
    return float(alone["idle_seconds"].median()), float(overhead.median()), float(computation)


def draw(runs: pd.DataFrame, settings: dict[str, Any]) -> Figure:
    """The figure: what was measured, and the model of the paper's profile."""
    start, overhead, computation = constants(runs)
    with style(SETTINGS):
        figure = new_figure(WIDTH, 3.2)
        here, there = figure.subplots(1, 2)
        for (workers, of_workers), marker in zip(runs.groupby("workers"), "osD^", strict=False):
            (line,) = here.plot(of_workers["shards"], of_workers["seconds"], marker, label=f"{workers} at a time")
            counts = np.arange(1, of_workers["shards"].max() + 1)
            times = [modelled(count, workers, computation, start, overhead) for count in counts]
            here.plot(counts, times, "--", color=line.get_color(), label="its model")
        here.set(xlabel="shards", ylabel="wall time (s)", ylim=(0, None))
        here.set_title(f"measured:\n{settings['profile']}, {settings['evaluation']} of {settings['method']}")
        here.legend(loc="lower right", ncols=2)
        config = paper()
        rows, methods = hours(config), computed_with(EVALUATION, METHOD, config.methods)
        seconds = 3600 * rows[(rows["rule"] == EVALUATION) & (rows["job"] == methods[0])]["hours"].sum()
        gpus = np.array([1, 2, 4, 8, 16, 32, 64])
        for count in (8, 64, 512):
            times = [modelled(count, number, seconds, start, overhead) / 3600 for number in gpus]
            there.plot(gpus, times, ".--", label=f"{count} shards")
        there.plot(gpus, seconds / 3600 / gpus, "k:", label="computation alone")
        there.set(xscale="log", yscale="log", xlabel="GPUs", ylabel="wall time (h)", xticks=gpus, xticklabels=gpus)
        there.set_title(f"MODEL, not measured:\npaper, {EVALUATION} of {' and '.join(methods)}")
        there.yaxis.set_major_formatter("{x:g}")
        there.minorticks_off()
        there.legend()
    return figure


def main() -> None:
    """Writes the figure and the page's table."""
    record = json.loads(MEASURED.read_text())
    runs = pd.DataFrame(record["runs"])
    save(draw(runs, record["settings"]), ROOT / "docs/scaling", dpi=200)
    before, rest = PAGE.read_text().split(START)
    with atomic(PAGE) as temporary:
        temporary.write_text(before + START + "\n" + sizes(paper()) + "\n\n" + END + rest.split(END)[1])
    start, overhead, computation = constants(runs)
    print(f"start {start:.1f} s, a job {overhead:.1f} s, computation {computation:.1f} s")


if __name__ == "__main__":
    main()
