"""Which share of a whole run is Snakemake and the start of jobs.

`python benchmarks/run.py` reads the last run of Snakemake in a folder that had jobs, by its log and those of the jobs:
when it began and ended, when each job ran, and how long a job's own work took (the last line of its log). With --go it
makes the run first, in a folder of its own. For a whole run, not for one that went on with another.
"""

import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from common import finish, parser, run_script, show, started
from oodcert.cli.arguments import POSITIVE_INT
from oodcert.config.load import read_configs
from oodcert.errors import InputError

ROOT = Path(__file__).parents[1]
DONE = re.compile(r"^Done in ([\d.]+) s\.$", re.MULTILINE)


def main(argv=None):
    """Reads or makes a run, prints where its time went and writes the json file."""
    arguments = parser(__doc__.splitlines()[0], images=None, out="results/benchmarks/run.json", draws=False)
    arguments.add_argument("--cores", type=POSITIVE_INT, default=os.cpu_count(), help="of the run")
    arguments.add_argument("--go", action="store_true", help="make the run, in a folder of its own that does not stay")
    arguments.add_argument("--target", default="all", help="of the run that is made")
    options = arguments.parse_args(argv)
    config = read_configs([options.config])
    provenance = started(options, [], profile=config["profile"], cores=options.cores)
    if options.go:
        with TemporaryDirectory() as folder:
            make(folder, options)
            span, jobs = read(folder, config["profile"])
    else:
        span, jobs = read(options.directory, config["profile"])
    table, rules = account(span, jobs, options.cores), by_rule(jobs)
    show("Jobs", rules, {"seconds": 1, "work": 1})
    show("Core-seconds of the run, and their share", table, {"seconds": 1, "share": 3})
    finish(provenance, options, __file__, argv, shares=table, rules=rules)


def make(folder, options):
    """A run of Snakemake in a folder."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--configfile", Path(options.config).absolute(), "--cores", options.cores, options.target]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"Snakemake failed:\n{done.stdout}{done.stderr}")


def read(folder, profile):
    """Of a folder's last run of Snakemake that had jobs: (begin, end), and a row per job: job, seconds by Snakemake and
    of its work, began, ended."""
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


def job_row(path, logs, name):
    """job, its seconds by Snakemake, those of its own work, and when it began and ended."""
    seconds, ended = float(pd.read_csv(path, sep="\t")["s"].iloc[0]), path.stat().st_mtime
    log = logs / f"{name}.log"
    work = DONE.findall(log.read_text())
    if not work:
        raise InputError(f"{log} does not end with the seconds of the job: make the run by this version.")
    return {"job": str(name), "seconds": seconds, "work": float(work[-1]), "began": ended - seconds, "ended": ended}


def account(span, jobs, cores):
    """Where the core-seconds of a run went, a row each, with its share of all; a job has one core.

    overhead: start of jobs and Snakemake alone. not work: that, and cores that had no job beside another core's.
    """
    begin, end = span
    busy, reached = 0.0, begin
    for job in jobs.sort_values("began").itertuples():
        busy += max(0.0, job.ended - max(job.began, reached))
        reached = max(reached, job.ended)
    everything, work = cores * (end - begin), jobs["work"].sum()
    starting, alone = (jobs["seconds"] - jobs["work"]).sum(), cores * (end - begin - busy)
    parts = {
        "work": work,
        "start of jobs": starting,
        "Snakemake, no job running": alone,
        "a core without a job": everything - work - starting - alone,
        "overhead": starting + alone,
        "not work": everything - work,
        "run": everything,
    }
    return pd.DataFrame(
        {"what": name, "seconds": seconds, "share": seconds / everything} for name, seconds in parts.items()
    )


def by_rule(jobs):
    """Number of jobs, their seconds by Snakemake and those of their work, by the folder of their logs."""
    grouped = jobs.groupby(jobs["job"].str.split("/").str[0])
    return grouped.agg(jobs=("job", "size"), seconds=("seconds", "sum"), work=("work", "sum")).reset_index(names="rule")


if __name__ == "__main__":
    run_script(main)
