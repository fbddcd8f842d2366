"""Draws docs/scaling.png and writes the table of docs/operations.md, from what was measured and the configs."""

import json
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd

from oodcert.config.load import read_configs
from oodcert.config.method_specs import computed_with
from oodcert.execution import cost
from oodcert.execution.shards import SETS, pieces, shards
from oodcert.reporting.figures.guaranteed import SETTINGS
from oodcert.reporting.figures.style import WIDTH, new_figure, save, style
from oodcert.runtime.files import atomic

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/operations.md"
MEASURED = ROOT / "results/reference/benchmarks/scaling.json"
RATES = {"classifier": 30_000, "discriminator": 60_000, "denoiser": 10_000}  # images a second of a GPU: assumed
EVALUATION, METHOD = "certify_l2", "distro"
START, END = "<!-- table by docs/operations.py -->\n", "<!-- end -->"


def paper():
    return read_configs([ROOT / "config/paper.yaml"])


def hours(config):
    """A row per method and part, as of oodcert.execution.cost.passes, with the column hours: on one GPU at RATES. job: the first
    of the methods that are computed in it."""
    rows = cost.passes(cost.jobs(config))
    first = [
        computed_with(rule, job, config["methods"])[0] for rule, job in zip(rows["rule"], rows["job"], strict=True)
    ]
    return rows.assign(hours=cost.hours(rows, RATES), job=first)


def sizes(config):
    """The table of a profile, a row per rule, in Markdown."""
    own, rows = hours(config), []
    for rule, part in own.groupby("rule", sort=False):
        methods = part["job"].unique() if rule in SETS else ()
        jobs = [shards(config | {"shards": 64}, rule, method) for method in methods]
        cuts = [pieces(config, rule, method) for method in methods]
        rows.append(
            {
                "rule": rule,
                "jobs": str(part["job"].nunique()),
                "with shards: 64": sum(len(one) for stages in jobs for one in stages.values()) or "not cut",
                "pieces": sum(len(one) for stages in cuts for one in stages.values()) or "",
                "GPU hours": f"{part['hours'].sum():,.1f}",
                "of the longest job": f"{part.groupby('job')['hours'].sum().max():,.1f}",
            }
        )
    rows.append({"rule": "all", "GPU hours": f"{own['hours'].sum():,.0f}"})
    return pd.DataFrame(rows).fillna("").to_markdown(index=False, disable_numparse=True)


def modelled(shards, workers, work, start, overhead):
    """Seconds of a run of so many shards: start of Snakemake, rounds of jobs, gathering."""
    return start + ceil(shards / workers) * (overhead + work / shards) + overhead * (shards > 1)


def constants(runs):
    """(start, overhead, work) of the model: seconds of Snakemake with nothing to do; of a job beside its work; of the
    work of all jobs: medians over the runs on one worker."""
    alone = runs[runs["workers"] == 1]
    overhead = (alone["seconds"] - alone["idle_seconds"] - alone["work_seconds"]) / alone["jobs"]
    return float(alone["idle_seconds"].median()), float(overhead.median()), float(alone["work_seconds"].median())


def draw(runs, settings):
    start, overhead, work = constants(runs)
    with style(SETTINGS):
        figure = new_figure(WIDTH, 3.2)
        here, there = figure.subplots(1, 2)
        for (workers, part), marker in zip(runs.groupby("workers"), "osD^", strict=False):
            (line,) = here.plot(part["shards"], part["seconds"], marker, label=f"{workers} at a time")
            counts = np.arange(1, part["shards"].max() + 1)
            times = [modelled(count, workers, work, start, overhead) for count in counts]
            here.plot(counts, times, "--", color=line.get_color(), label="its model")
        here.set(xlabel="shards", ylabel="wall time (s)", ylim=(0, None))
        here.set_title(f"measured:\n{settings['profile']}, {settings['evaluation']} of {settings['method']}")
        here.legend(loc="lower right", ncols=2)
        config = paper()
        rows, methods = hours(config), computed_with(EVALUATION, METHOD, config["methods"])
        seconds = 3600 * rows[(rows["rule"] == EVALUATION) & (rows["job"] == methods[0])]["hours"].sum()
        gpus = np.array([1, 2, 4, 8, 16, 32, 64])
        for count in (8, 64, 512):
            times = [modelled(count, number, seconds, start, overhead) / 3600 for number in gpus]
            there.plot(gpus, times, ".--", label=f"{count} shards")
        there.plot(gpus, seconds / 3600 / gpus, "k:", label="work alone")
        there.set(xscale="log", yscale="log", xlabel="GPUs", ylabel="wall time (h)", xticks=gpus, xticklabels=gpus)
        there.set_title(f"MODEL, not measured:\npaper, {EVALUATION} of {' and '.join(methods)}")
        there.yaxis.set_major_formatter("{x:g}")
        there.minorticks_off()
        there.legend()
    return figure


def main():
    record = json.loads(MEASURED.read_text())
    runs = pd.DataFrame(record["runs"])
    save(draw(runs, record["settings"]), ROOT / "docs/scaling", dpi=200)
    before, rest = PAGE.read_text().split(START)
    with atomic(PAGE) as temporary:
        temporary.write_text(before + START + "\n" + sizes(paper()) + "\n\n" + END + rest.split(END)[1])
    start, overhead, work = constants(runs)
    print(f"start {start:.1f} s, a job {overhead:.1f} s, work {work:.1f} s")


if __name__ == "__main__":
    main()
