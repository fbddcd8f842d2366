"""Which share of a whole run is Snakemake and the start of jobs.

`python benchmarks/run.py` reads the last run of Snakemake in a folder that had jobs, by its log and those of the jobs:
when it began and ended, when each job ran, and how long its body took (the last line of its log). With --go it makes
the run first, in a folder of its own. This is for a whole run, not for one that went on with another.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from common import finish, parser, run_script, show, started
from oodcert.cli.arguments import POSITIVE_INT
from oodcert.config.load import read_configs
from oodcert.errors import InputError

ROOT = Path(__file__).parents[1]
DONE = re.compile(r"^Done in ([\d.]+) s\.$", re.MULTILINE)
Span = tuple[float, float]  # begin and end, in seconds since 1970


def main(argv: Sequence[str] | None = None) -> None:
    """Reads or makes a run, prints where its time went and writes the json file."""
    arguments = parser(__doc__, images=None, out="results/benchmarks/run.json", draws=False)
    arguments.add_argument("--cores", type=POSITIVE_INT, default=os.cpu_count(), help="of the run")
    arguments.add_argument("--go", action="store_true", help="make the run, in a folder of its own that does not stay")
    arguments.add_argument("--target", default="all", help="of the run that is made")
    options = arguments.parse_args(argv)
    profile = read_configs([options.config]).profile
    provenance = started(options, [], profile=profile, cores=options.cores)
    if options.go:
        with TemporaryDirectory() as folder:
            make(folder, options)
            span, jobs = read(folder, profile)
    else:
        span, jobs = read(options.directory, profile)
    table, rules = account(span, jobs, options.cores), by_rule(jobs)
    show("Jobs", rules, {"seconds": 1, "computation": 1})
    show("Core-seconds of the run, and their share", table, {"seconds": 1, "share": 3})
    finish(provenance, options, __file__, argv, shares=table, rules=rules)


def make(folder: str, options: argparse.Namespace) -> None:
    """A run of Snakemake in a folder."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--configfile", Path(options.config).absolute(), "--cores", options.cores, options.target]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"Snakemake failed:\n{done.stdout}{done.stderr}")


def read(folder: str | Path, profile: str) -> tuple[Span, pd.DataFrame]:
    """A folder's last run of Snakemake that had jobs: its span, and a row per job as of job_row.

    Raises:
        InputError: if there is none.
    """
    logs = sorted(Path(folder, ".snakemake", "log").glob("*.snakemake.log"))
    if not logs:
        raise InputError(f"{folder} holds no run of Snakemake: run `make` first, or pass --go.")
    measured = Path(folder, "logs", profile, "benchmarks")
    for log in reversed(logs):
        begun = datetime.strptime(log.name.split(".snakemake")[0], "%Y-%m-%dT%H%M%S.%f").timestamp()
        ended = log.stat().st_mtime
        rows = [
            job_row(path, measured.parent, path.relative_to(measured).with_suffix(""))
            for path in sorted(measured.rglob("*.tsv"))
            if begun <= path.stat().st_mtime <= ended
        ]
        if rows:
            return (begun, ended), pd.DataFrame(rows)
    raise InputError(f"No run of Snakemake in {folder} had jobs of the profile {profile}.")


def job_row(path: Path, logs: Path, name: Path) -> dict[str, Any]:
    """job, its seconds by Snakemake, those of its computation, and when it began and ended.

    Args:
        path: of Snakemake's benchmark file.
        logs: folder of the logs.
        name: of the job, its log in that folder without a suffix.
    """
    seconds, ended = float(pd.read_csv(path, sep="\t")["s"].iloc[0]), path.stat().st_mtime
    log = logs / f"{name}.log"
    computations = DONE.findall(log.read_text())
    if not computations:
        raise InputError(f"{log} does not end with the seconds of the job: make the run by this version.")
    computation = float(computations[-1])
    return {"job": str(name), "seconds": seconds, "computation": computation, "began": ended - seconds, "ended": ended}


def account(span: Span, jobs: pd.DataFrame, cores: int) -> pd.DataFrame:
    """Where the core-seconds of a run went, a row each, with its share of all; a job has one core.

    "overhead" is the start of jobs, and Snakemake alone. "all but computation" is that, and cores that had no job while
    another core had one.
    """
    begin, end = span
    busy, reached = 0.0, begin
    for job in jobs.sort_values("began").itertuples():
        busy += max(0.0, job.ended - max(job.began, reached))
        reached = max(reached, job.ended)
    everything, computation = cores * (end - begin), jobs["computation"].sum()
    starting, alone = (jobs["seconds"] - jobs["computation"]).sum(), cores * (end - begin - busy)
    shares = {
        "computation": computation,
        "start of jobs": starting,
        "Snakemake, no job running": alone,
        "a core without a job": everything - computation - starting - alone,
        "overhead": starting + alone,
        "all but computation": everything - computation,
        "run": everything,
    }
    return pd.DataFrame(
        {"what": name, "seconds": seconds, "share": seconds / everything} for name, seconds in shares.items()
    )


def by_rule(jobs: pd.DataFrame) -> pd.DataFrame:
    """Number of jobs, their seconds by Snakemake and those of their computation, by the folder of their logs."""
    grouped = jobs.groupby(jobs["job"].str.split("/").str[0])
    sums = {column: (column, "sum") for column in ("seconds", "computation")}
    return grouped.agg(jobs=("job", "size"), **sums).reset_index(names="rule")


if __name__ == "__main__":
    run_script(main)
