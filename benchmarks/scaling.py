"""Wall time of one evaluation by Snakemake, against the number of shards and of workers."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd

from common import finish, parser, refuse_missing, run_script, set_files, show, started, weight_files
from oodcert.cli.arguments import POSITIVE_INT
from oodcert.config.load import read_configs
from oodcert.config.method_specs import computed_with
from oodcert.config.models import Config
from oodcert.errors import InputError
from oodcert.execution.shards import shards
from oodcert.runtime.files import sha256

ROOT = Path(__file__).parents[1]
EVALUATION = "certify_l2"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs every number of shards on every number of workers, prints the table and writes the json file."""
    arguments = parser(__doc__, images=None, out="results/benchmarks/scaling.json", draws=False)
    add = arguments.add_argument
    add("--method", default="plain", help="of the config, the one that is certified")
    add("--shards", type=POSITIVE_INT, nargs="+", default=[1, 2, 4, 8], metavar="K")
    add("--workers", type=POSITIVE_INT, nargs="+", default=[1, 2], metavar="W", help="jobs at a time")
    options = arguments.parse_args(argv)
    config, source = read_configs([options.config]), Path(options.directory)
    paths = run_files(config, options.method)
    inputs = [source / path for path in paths]
    refuse_missing(inputs, config.profile)
    provenance = started(options, inputs, evaluation=EVALUATION, method=options.method, profile=config.profile)
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / path, Path(folder) / path)
        rows = [
            measure(config.changed(shards=count), workers, Path(folder), options)
            for count in options.shards
            for workers in options.workers
        ]
    table = pd.DataFrame(rows)
    if table["sha256"].nunique() > 1:
        raise InputError(f"The evidence depends on how it was made:\n{table.to_string()}")
    show(
        f"{EVALUATION} of {options.method}; idle: Snakemake with nothing to do; computation: within the jobs, without "
        "their start",
        table.drop(columns="sha256"),
        {"seconds": 1, "idle_seconds": 1, "computation_seconds": 1},
    )
    finish(provenance, options, __file__, argv, runs=table)


def run_files(config: Config, method: str) -> list[str]:
    """The files of a run that the evaluation needs; the weights come last, to be newer than the images when copied."""
    methods = computed_with(EVALUATION, method, config.methods)
    components = dict.fromkeys(name for one in methods for name in config.methods[one].components)
    return [*set_files(config, "id_train", "outliers", "id_test"), *weight_files(config, [*components])]


def measure(config: Config, workers: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A row: the evaluation in config.shards shards, so many jobs at a time."""
    results, method = folder / f"results/{config.profile}", options.method
    evidence = results / f"evidence/{EVALUATION}/{method}.parquet"
    shutil.rmtree(evidence.parent, ignore_errors=True)
    shutil.rmtree(results / "shards", ignore_errors=True)
    jobs = sum(map(len, shards(config, EVALUATION, method).values()))
    seconds, idle = (run_snakemake(folder, evidence, options.config, workers, config.shards) for _ in range(2))
    record = json.loads(evidence.with_suffix(".json").read_text())
    methods = computed_with(EVALUATION, method, config.methods)  # each has an equal share of the seconds
    return {
        "workers": workers,
        "shards": config.shards,
        "jobs": jobs + (config.shards > 1),
        "seconds": seconds,
        "idle_seconds": idle,
        "computation_seconds": record["wall_seconds"] * len(methods),
        "sha256": sha256(evidence),
    }


def run_snakemake(folder: Path, target: Path, config: str, workers: int, count: int) -> float:
    """Seconds of a run of one target."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--configfile", Path(config).absolute(), "--config", f"shards={count}", "--cores", workers]
    command += ["--rerun-triggers", "mtime", "--", target.relative_to(folder)]
    begun = perf_counter()
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"Snakemake failed:\n{done.stdout}{done.stderr}")
    return perf_counter() - begun


if __name__ == "__main__":
    run_script(main)
