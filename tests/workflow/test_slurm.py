"""The workflow on a real Slurm, as profiles/slurm runs it: it ends with the bytes of a local run.

Where Slurm is installed, and this is root, `make test` tries the profile alone; `make test-slurm`, which sets
TEST_SLURM=install, installs Slurm where it is missing and runs the workflow as well.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from conftest import ROOT
from one_node_slurm import Unavailable, one_node
from oodcert.runtime.files import sha256
from tiny_workflow import command, tiny

WHOLE = os.environ.get("TEST_SLURM") == "install"
OPTIONS = ("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "3")
MEMORY = """
rule all:
    input: "memory", "gpu0", "gpu1"

rule memory:
    output: "memory"
    resources: mem_mb=lambda wildcards, attempt: 500 * attempt, runtime=5, gpu=0
    shell: "python -c 'import time; held = bytearray(600_000_000); time.sleep(4)'; {show} > {{output}}"

rule gpu:
    output: "gpu{{number}}"
    resources: mem_mb=500, runtime=5, gpu=1
    shell: "{show} > {{output}}"
"""
TIME = """
rule time:
    output: "time"
    resources:
        mem_mb=500,
        runtime=lambda wildcards, attempt: attempt,
        seconds=lambda wildcards, attempt: 0 if attempt == 2 else 200
    shell: "sleep {{resources.seconds}}; {show} > {{output}}"
"""
SHOW = "scontrol show job --oneliner $SLURM_JOB_ID"
slow = pytest.mark.skipif(not WHOLE, reason="takes minutes: make test-slurm")


@pytest.fixture(scope="module", autouse=True)
def slurm():
    try:
        with one_node(install=WHOLE):
            yield
    except Unavailable as error:
        pytest.skip(str(error))


def run(folder, *arguments):
    """Snakemake in a folder, by the profile as it stands."""
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    start = [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", *OPTIONS]
    done = subprocess.run([*start, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def hashes(results, figures):
    """Of all evidence, tables and figures."""
    paths = [(results, path) for path in (*results.glob("evidence/**/*.parquet"), *results.glob("tables/*"))]
    paths += [(figures, path) for path in figures.iterdir()]
    return {str(path.relative_to(base)): sha256(path) for base, path in paths}


def asked(path):
    """What a job that wrote what Slurm says of it had asked for."""
    return dict(item.split("=", 1) for item in path.read_text().split() if "=" in item)


def test_a_killed_job_gets_more_memory_and_a_gpu_job_one_gpu(tmp_path):
    (tmp_path / "Snakefile").write_text(MEMORY.format(show=SHOW))
    output = run(tmp_path)
    assert "exceeded memory limit" in output and output.count("Trying to restart job") == 1
    memory, *gpus = (asked(tmp_path / name) for name in ("memory", "gpu0", "gpu1"))
    assert (memory["Partition"], memory["MinMemoryNode"]) == ("cpu", "1000M") and "TresPerJob" not in memory
    assert [(job["Partition"], job["TresPerJob"]) for job in gpus] == 2 * [("gpu", "gres:gpu:1")]
    assert "Execute 3 jobs" in output  # both GPU jobs at once


@slow
def test_a_job_that_is_out_of_time_gets_more(tmp_path):
    (tmp_path / "Snakefile").write_text(TIME.format(show=SHOW))
    output = run(tmp_path)
    assert "TIMEOUT" in output and output.count("Trying to restart job") == 1
    assert asked(tmp_path / "time")["TimeLimit"] == "00:02:00"


@slow
def test_a_tiny_run_in_shards_ends_with_the_bytes_of_a_local_one(clone, tmp_path_factory):
    config = tiny("distro")
    local = tmp_path_factory.mktemp("local")
    done = subprocess.run(command(local, "--cores", "2", config=config), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (clone / "tiny.yaml").write_text(yaml.safe_dump(config | {"shards": 4}, sort_keys=False))
    run(clone, "--configfile", "tiny.yaml")
    expected = hashes(local / "results/tiny", local / "figures/tiny")
    assert len(expected) > 50 and hashes(clone / "results/tiny", clone / "figures/tiny") == expected
    assert json.loads((clone / "results/tiny/audit/report.json").read_text())["passed"]


@slow
def test_the_digits_run_in_shards_ends_with_the_bytes_of_the_committed_one(clone):
    run(clone, "--config", "shards=4")
    expected = hashes(ROOT / "results/reference/digits", ROOT / "figures/reference/digits")
    found = hashes(clone / "results/digits", clone / "figures/digits")
    assert found.keys() == expected.keys()
    assert not [name for name in expected if found[name] != expected[name]], "is this another kind of processor?"
