"""One way to set torch up, for commands and for jobs."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from oodcert.cli import inputs
from oodcert.errors import InputError
from oodcert.execution import jobs
from oodcert.runtime import gpu_slots, torch_setup
from oodcert.runtime.torch_setup import NoGpuError, prepare_torch


@pytest.fixture(autouse=True)
def settings_put_back():
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def gpus(monkeypatch):
    """Says how many GPUs torch sees."""
    return lambda count: monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)


@pytest.mark.parametrize(
    ("count", "device", "expected"),
    [(0, "cpu", "cpu"), (0, "auto", "cpu"), (1, "cpu", "cpu"), (1, "auto", "cuda"), (1, "cuda", "cuda")],
)
def test_the_device_is_what_is_asked_for_or_what_there_is(count, device, expected, gpus):
    gpus(count)
    assert prepare_torch(device, threads=1) == expected
    assert torch.get_num_threads() == 1 and torch.are_deterministic_algorithms_enabled()


def test_without_a_gpu_each_caller_names_its_own_setting(gpus, monkeypatch):
    gpus(0)
    monkeypatch.setattr(torch_setup, "take_gpu", lambda jobs_per_gpu: None)
    with pytest.raises(NoGpuError, match="torch sees no GPU"):
        prepare_torch("cuda")
    with pytest.raises(InputError, match=r"^--device cuda: torch sees no GPU here: set it to cpu or auto\."):
        inputs.prepare_device(SimpleNamespace(device="cuda"))
    with pytest.raises(InputError, match=r"^Config key device = 'cuda', but torch sees no GPU here: set it to cpu"):
        jobs.prepare_job(SimpleNamespace(device="cuda", threads=1), 1)


OLD = "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver."


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_a_gpu_that_torch_cannot_use_is_no_missing_gpu(device, gpus, monkeypatch):
    """With an old driver torch sees no GPU. A job that holds one says so, and does not compute on the CPU."""
    gpus(0)

    def fail():
        raise RuntimeError(OLD)

    monkeypatch.setattr(torch.cuda, "init", fail)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch_setup, "visible_gpus", lambda: ["GPU-a"])
    monkeypatch.setattr(torch_setup, "take_gpu", lambda jobs_per_gpu: None)
    with pytest.raises(InputError, match=rf"^Config key device = '{device}', but torch \S+ can't use GPU-a \(.*11040"):
        jobs.prepare_job(SimpleNamespace(device=device, threads=1), 1)
    with pytest.raises(InputError, match=rf"^--device {device}: torch \S+ can't use GPU-a"):
        inputs.prepare_device(SimpleNamespace(device=device))
    assert prepare_torch("cpu") == "cpu"


def test_a_torch_for_cpus_gives_the_gpu_back_and_says_so(gpus, monkeypatch, tmp_path, capsys):
    gpus(0)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert prepare_torch("auto", jobs_per_gpu=1) == "cpu"
    assert "built for CPUs" in capsys.readouterr().err and not gpu_slots._held


def test_new_tensors_are_not_filled_first():
    """torch fills what it has just made with NaN under deterministic algorithms: a kernel for each tensor."""
    prepare_torch("cpu")
    with torch.profiler.profile() as profile:
        torch.empty(10).resize_(20)
    assert "aten::empty" in {event.name for event in profile.events()}
    assert not {"aten::fill_"} & {event.name for event in profile.events()}


def test_only_a_job_that_may_use_a_gpu_takes_a_slot(gpus, monkeypatch):
    gpus(0)
    taken = []
    monkeypatch.setattr(torch_setup, "take_gpu", taken.append)
    prepare_torch("auto")
    prepare_torch("cpu", jobs_per_gpu=2)
    assert taken == []
    prepare_torch("auto", jobs_per_gpu=2)
    assert taken == [2] and not gpu_slots._held


def test_a_process_that_waits_for_a_gpu_has_not_imported_torch():
    script = "import sys, oodcert.runtime.torch_setup; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
