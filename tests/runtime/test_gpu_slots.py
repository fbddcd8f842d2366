"""GPUs of this machine: counted without torch, and each held by no more jobs than it is meant for."""

import os
import re
import subprocess
import sys
import time

import pytest
import yaml

from conftest import ROOT, read_config, shrink

JOB = """
import os, sys
from oodcert.runtime.gpu_slots import take_gpu
take_gpu(int(sys.argv[1]))
print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path):
    """Starts a job that takes a GPU, says which, and holds it until its input is closed."""
    running = []

    def begin(gpus, jobs_per_gpu=1):
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow"), "TMPDIR": str(tmp_path)}
        if gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpus
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen([sys.executable, "-c", JOB, str(jobs_per_gpu)], env=environment, **pipes))
        return running[-1]

    yield begin
    for job in running:
        job.kill()
        job.communicate()


def taken(*jobs):
    return [job.stdout.readline().strip() for job in jobs]


def test_every_job_gets_a_gpu_of_its_own_before_any_is_shared(start):
    first = start("GPU-a,GPU-b", 2)
    second = start("GPU-a,GPU-b", 2)
    assert sorted(taken(first, second)) == ["GPU-a", "GPU-b"]
    assert sorted(taken(start("GPU-a,GPU-b", 2), start("GPU-a,GPU-b", 2))) == ["GPU-a", "GPU-b"]


def test_the_gpu_that_fewest_jobs_hold_is_taken(start):
    jobs = {}
    for _ in range(4):
        job = start("GPU-a,GPU-b", 2)
        jobs.setdefault(*taken(job), []).append(job)
    for job in jobs["GPU-b"]:
        job.kill()
        job.wait()
    jobs["GPU-a"][0].kill()
    jobs["GPU-a"][0].wait()
    assert taken(start("GPU-a,GPU-b", 2)) == ["GPU-b"]


@pytest.mark.parametrize("gpus", ["0", "0,1"])
def test_a_job_waits_for_a_gpu_until_another_is_killed(gpus, start):
    held = [start(gpus) for _ in gpus.split(",")]
    names = taken(*held)
    assert sorted(names) == gpus.split(",")
    late = start(gpus)
    assert "Waiting for a GPU" in late.stderr.readline()
    time.sleep(1.5)
    assert late.poll() is None
    held[0].kill()
    assert taken(late) == names[:1]


CARDS = {"GPU-a": "GPU 0: NVIDIA H200 (UUID: GPU-a)", "GPU-b": "GPU 1: NVIDIA H200 (UUID: GPU-b)"}


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """An nvidia-smi that lists two GPUs."""
    tool = tmp_path / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in CARDS.values()))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tool


@pytest.mark.parametrize(("device", "jobs_per_gpu", "places"), [("cuda", 1, 2), ("auto", 3, 6), ("cpu", 1, None)])
def test_the_workflow_starts_no_more_gpu_jobs_than_there_are_places(device, jobs_per_gpu, places, two_gpus, tmp_path):
    config = shrink(read_config()) | {"device": device, "jobs_per_gpu": jobs_per_gpu}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    start = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
    target = ["data/tiny/id_test.npz", "--cores", "8", "--configfile", str(tmp_path / "tiny.yaml")]
    output = subprocess.run([*start, *target], cwd=ROOT, capture_output=True, text=True)
    said = output.stdout + output.stderr
    assert output.returncode == 0
    stated = re.search(r"Provided resources: .*gpu\D*(\d+)", said)
    assert (int(stated[1]) if stated else None) == places


def test_a_folder_of_locks_that_another_user_made_is_refused(start, tmp_path):
    (tmp_path / f"oodcert-gpus-{os.getuid()}").symlink_to("/tmp")
    assert "belongs to another user" in start("0,1").communicate()[1]
