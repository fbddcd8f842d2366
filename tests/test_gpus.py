"""GPUs of this machine: counted without torch, and each held by no more jobs than it is meant for."""

import os
import subprocess
import sys
import time

import pytest

from conftest import ROOT
from oodcert.gpus import visible_gpus

JOB = """
import os, sys
from oodcert.gpus import take_gpu
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


def test_every_job_gets_a_gpu_of_its_own_before_any_is_shared(start):
    jobs = [start("GPU-a,GPU-b", 2) for _ in range(4)]
    taken = [job.stdout.readline().strip() for job in jobs]
    assert sorted(taken) == ["GPU-a", "GPU-a", "GPU-b", "GPU-b"]


def test_a_job_waits_for_a_gpu_until_another_is_killed(start):
    first, second = start("0,1"), start("0,1")
    taken = {job.stdout.readline().strip() for job in (first, second)}
    assert taken == {"0", "1"}
    third = start("0,1")
    assert "Waiting for a GPU" in third.stderr.readline()
    time.sleep(1.5)
    assert third.poll() is None
    first.kill()
    assert third.stdout.readline().strip() in taken


def test_the_one_gpu_that_a_cluster_gives_is_taken_as_it_is(start):
    assert [start("3").stdout.readline().strip() for _ in range(2)] == ["3", "3"]


@pytest.mark.parametrize(("value", "gpus"), [("0,2", ["0", "2"]), ("GPU-a", ["GPU-a"]), ("", []), ("-1", [])])
def test_the_visible_gpus_are_those_that_the_environment_names(value, gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == gpus


def test_otherwise_they_are_those_that_nvidia_smi_lists(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho GPU-a; echo GPU-b\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert visible_gpus() == ["GPU-a", "GPU-b"]
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert visible_gpus() == []


def test_a_folder_of_locks_that_another_user_made_is_refused(start, tmp_path):
    (tmp_path / f"oodcert-gpus-{os.getuid()}").symlink_to("/tmp")
    assert "belongs to another user" in start("0,1").communicate()[1]
