"""Draws docs/scaling.png: the committed measurements of benchmarks/scaling.py, and a model of the paper's profile."""

import json
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd

from oodcert.config import read_configs
from oodcert.cost import BACKWARD, evaluations
from oodcert.cutting import cells
from oodcert.figures.guaranteed import CONFIG
from oodcert.figures.style import WIDTH, new_figure, save, style

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "results/reference/benchmarks/scaling.json"
RATE = 10_000  # images a second of one GPU through all of DISTRO: what is aimed at, measured nowhere
EVALUATION, METHOD = "certify_l2", "distro"


def modelled(shards, workers, work, start, overhead):
    """Seconds of a run of so many shards: start of Snakemake, rounds of jobs, gathering."""
    return start + ceil(shards / workers) * (overhead + work / shards) + overhead * (shards > 1)


def constants(runs):
    """(start, overhead, work) of the model: seconds of Snakemake with nothing to do; of a job beside its work; of the
    work of all jobs: medians over the runs on one worker."""
    alone = runs[runs["workers"] == 1]
    overhead = (alone["seconds"] - alone["idle_seconds"] - alone["work_seconds"]) / alone["jobs"]
    return float(alone["idle_seconds"].median()), float(overhead.median()), float(alone["work_seconds"].median())


def paper_work():
    """(seconds, cells) of the paper's l2 certification of DISTRO on one GPU at RATE."""
    config = read_configs([ROOT / "config/paper.yaml"])
    passes = evaluations(config)[EVALUATION](config, config["methods"][METHOD])[-1]
    images = max(forward + BACKWARD * backward for forward, backward in passes.values())
    return images / RATE, sum(map(len, cells(config, EVALUATION, METHOD).values()))


def draw(runs, settings):
    start, overhead, work = constants(runs)
    with style(CONFIG):
        figure = new_figure(WIDTH, 3.0)
        here, there = figure.subplots(1, 2)
        for (workers, part), marker in zip(runs.groupby("workers"), "osD^", strict=False):
            (line,) = here.plot(part["shards"], part["seconds"], marker, label=f"measured, {workers} at a time")
            counts = np.arange(1, part["shards"].max() + 1)
            times = [modelled(count, workers, work, start, overhead) for count in counts]
            here.plot(counts, times, "--", color=line.get_color(), label=f"model, {workers} at a time")
        here.set(xlabel="shards", ylabel="wall time (s)", ylim=(0, None))
        here.set_title(f"{settings['profile']}, {settings['evaluation']} of {settings['method']}")
        here.legend()
        seconds, most = paper_work()
        gpus = np.array([1, 2, 4, 8, 16, 32, 64])
        for count in (8, 64, 512):
            times = [modelled(min(count, most), number, seconds, start, overhead) / 3600 for number in gpus]
            there.plot(gpus, times, ".--", label=f"{count} shards")
        there.plot(gpus, seconds / 3600 / gpus, "k:", label="work alone")
        there.set(xscale="log", yscale="log", xlabel="GPUs", ylabel="wall time (h)", xticks=gpus, xticklabels=gpus)
        there.set_title(f"MODEL, not measured: paper, {EVALUATION} of DISTRO\nat {RATE:,} images/s a GPU")
        there.minorticks_off()
        there.legend()
    return figure


def main():
    record = json.loads(MEASURED.read_text())
    runs = pd.DataFrame(record["runs"])
    save(draw(runs, record["settings"]), ROOT / "docs/scaling", dpi=200)
    start, overhead, work = constants(runs)
    print(f"start {start:.1f} s, a job {overhead:.1f} s, work {work:.1f} s")


if __name__ == "__main__":
    main()
