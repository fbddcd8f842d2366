"""Wall time of one evaluation by Snakemake, against the number of shards and of workers."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import pandas as pd

from common import finish, parser, run_script, show, started
from oodcert.cli.arguments import POSITIVE_INT
from oodcert.config.load import read_configs
from oodcert.config.method_specs import components_of, computed_with
from oodcert.errors import InputError
from oodcert.execution.shards import shards
from oodcert.runtime.files import sha256

ROOT = Path(__file__).parents[1]
EVALUATION = "certify_l2"


def main(argv=None):
    made = parser(__doc__, images=None, out="results/benchmarks/scaling.json", draws=False)
    made.add_argument("--method", default="plain", help="of the config, the one that is certified")
    made.add_argument("--shards", type=POSITIVE_INT, nargs="+", default=[1, 2, 4, 8], metavar="K")
    made.add_argument("--workers", type=POSITIVE_INT, nargs="+", default=[1, 2], metavar="W", help="jobs at a time")
    options = made.parse_args(argv)
    config = read_configs([options.config])
    profile, method = config["profile"], options.method
    methods = computed_with(EVALUATION, method, config["methods"])
    needed = dict.fromkeys(part for one in methods for part in components_of(config["methods"][one]))
    parts = [f"results/{profile}/models/{part}.safetensors" for part in needed]
    sets = [f"data/{profile}/{name}.npz" for name in ("id_train", "outliers", "id_test", *config["data"]["ood"])]
    source = Path(options.directory)
    missing = [path for path in (*parts, *sets) if not (source / path).exists()]
    if missing:
        raise InputError(
            f"{source / missing[0]} does not exist: this benchmark needs a finished {profile} run. Run `make` first, "
            "or pass the folder that holds results/ and data/ with --directory."
        )
    provenance = started(
        options, [source / path for path in (*parts, *sets)], evaluation=EVALUATION, method=method, profile=profile
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path in (*sets, *parts):  # the weights last, so that they are newer than the images
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / path, Path(folder) / path)
        evidence = Path(folder) / f"results/{profile}/evidence/{EVALUATION}/{method}.parquet"
        for count in options.shards:
            for workers in options.workers:
                shutil.rmtree(evidence.parent, ignore_errors=True)
                shutil.rmtree(Path(folder) / f"results/{profile}/shards", ignore_errors=True)
                jobs = sum(map(len, shards(config | {"shards": count}, EVALUATION, method).values()))
                seconds, again = (_snakemake(folder, evidence, options.config, workers, count) for _ in range(2))
                record = json.loads(evidence.with_suffix(".json").read_text())
                work = record["wall_seconds"] * len(methods)  # each has an equal share
                rows.append((workers, count, jobs + (count > 1), seconds, again, work, sha256(evidence)))
    table = pd.DataFrame(
        rows, columns=["workers", "shards", "jobs", "seconds", "idle_seconds", "work_seconds", "sha256"]
    )
    if table["sha256"].nunique() > 1:
        raise InputError(f"The evidence depends on how it was made:\n{table.to_string()}")
    show(
        f"{EVALUATION} of {method}; idle: Snakemake with nothing to do; work: within the jobs, without their start",
        table.drop(columns="sha256"),
        {"seconds": 1, "idle_seconds": 1, "work_seconds": 1},
    )
    finish(provenance, options, __file__, argv, runs=table)


def _snakemake(folder, target, config, workers, count):
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
