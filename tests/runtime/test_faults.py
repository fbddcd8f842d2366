"""Faults of the machine: a full disk, a folder that can't be written, a GPU that vanishes, a clock that jumps."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import yaml

from conftest import ROOT, read_config, shrink
from oodcert.errors import InputError
from oodcert.evidence.provenance import Provenance
from oodcert.execution.fork_server import ADDRESS
from oodcert.execution.jobs import job
from oodcert.runtime.faults import AGAIN, check_writable, explained
from oodcert.runtime.files import sha256

WITHOUT_SERVER = os.environ | {ADDRESS: "none"}  # scripts run their jobs themselves: nobody imports torch for them
MOUNT = 'mount -t tmpfs -o size=2m none "$0"'


def mounted(folder, script):
    """Runs a shell script in a file system of 2 MB of its own, mounted at the folder, which is gone afterwards."""
    command = ["unshare", "--mount", "sh", "-ec", f'{MOUNT}; cd "$0"; {script}', str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def disk(tmp_path):
    """An empty folder, and how to run a script in it on a small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    tried = mounted(folder, "true")
    if tried.returncode:
        pytest.skip(f"no file system can be mounted here: {tried.stderr.strip()}")
    return folder


@pytest.fixture
def snakemake(tmp_path):
    """A shell command that makes the tiny run's ID images."""
    config = shrink(read_config())
    config["methods"] = {"plain": config["methods"]["plain"]}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    start = f"{sys.executable} -m snakemake --snakefile {ROOT}/Snakefile --directory . --configfile {path}"
    return f"{start} --cores 1 data/tiny/id_test.npz 2>&1"


def test_a_full_disk_stops_the_run_with_the_cause_and_leaves_nothing_half_written(disk, snakemake, tmp_path):
    fill = "head -c 2M /dev/zero > filler 2> /dev/null || true; truncate -s -64K filler"
    steps = [fill, f"{snakemake} || true", "rm filler", snakemake, f"cp data/tiny/id_test.npz {tmp_path}"]
    done = mounted(disk, "; ".join(steps))
    assert done.returncode == 0, done.stdout + done.stderr
    first, again = done.stdout.split("Building DAG", 2)[1:]
    assert "No space left on device" in first or "the disk is full" in first
    assert "steps (100%) done" in again
    whole = subprocess.run(snakemake, shell=True, cwd=tmp_path, capture_output=True, env=WITHOUT_SERVER)
    assert whole.returncode == 0
    assert sha256(tmp_path / "id_test.npz") == sha256(tmp_path / "data/tiny/id_test.npz")


def test_a_read_only_folder_is_named_before_anything_starts(disk, snakemake):
    done = mounted(disk, f"mount -o remount,ro .; {snakemake}")
    assert done.returncode != 0
    assert f"{disk}: no file can be written in it" in done.stdout and "Traceback" not in done.stdout


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    check_writable(tmp_path / "new/folder")
    (tmp_path / "results").touch()
    with pytest.raises(InputError, match="results: no file can be written"):
        check_writable(tmp_path / "results")


def failed(tmp_path, error):
    """The message with which a job ends on which this error is raised, and its log."""
    log = tmp_path / "a.log"
    with pytest.raises(SystemExit) as caught, job(SimpleNamespace(log=[log], rule="certify_l2", config={})):
        raise error
    return str(caught.value), log.read_text()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device", "results/a.parquet"), "results/a.parquet: the disk is full"),
        (OSError(122, "Disk quota exceeded"), "quota"),
        (PermissionError(13, "Permission denied", "results"), "results: the file or folder may not be read or written"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), "lower the batch_size"),
        (MemoryError("array of 9 GiB"), "lower evaluation.batch_size"),
        (RuntimeError("CUDA error: unspecified launch failure"), "The GPU failed"),
        (RuntimeError("No CUDA GPUs are available: Found no NVIDIA driver"), "The GPU failed"),
    ],
)
def test_a_fault_of_the_machine_is_told_in_one_paragraph(error, told, tmp_path):
    message, log = failed(tmp_path, error)
    assert told in message and AGAIN in message and message.startswith("Error in rule certify_l2")
    assert told in log and "Traceback" in log


def test_a_defect_of_the_program_keeps_its_traceback(tmp_path):
    log = tmp_path / "a.log"
    with pytest.raises(ZeroDivisionError), job(SimpleNamespace(log=[log], rule="certify_l2", config={})):
        1 / 0  # noqa: B018
    assert "Traceback" in log.read_text()
    assert explained(RuntimeError("CUDA error: device-side assert triggered")) is None
    assert explained(FileNotFoundError(2, "No such file", "x")) is None and explained(ValueError("x")) is None


def test_a_clock_that_jumps_back_gives_no_negative_time(monkeypatch):
    provenance = Provenance({})
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert 0 <= provenance.record()["wall_seconds"] < 60


def test_files_from_the_past_or_the_future_change_no_result(snakemake, tmp_path):
    assert subprocess.run(snakemake, shell=True, cwd=tmp_path, env=WITHOUT_SERVER).returncode == 0
    made = tmp_path / "data/tiny/id_test.npz"
    before = sha256(made)
    for jump in (-(10**8), 10**6):
        os.utime(made, (made.stat().st_mtime + jump,) * 2)
        assert subprocess.run(snakemake, shell=True, cwd=tmp_path, env=WITHOUT_SERVER).returncode == 0
        assert sha256(made) == before
