"""GPUs are known by their UUIDs before torch is imported, whatever nvidia-smi says, and without it."""

import os
import subprocess
import sys

import pytest

from conftest import ROOT
from oodcert.runtime import gpu_list
from oodcert.runtime.gpu_list import visible_gpus

TWO = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-aaaa)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-c6d4f1ef-bbbb)
"""
DIVIDED = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-aaaa)
  MIG 3g.20gb     Device  0: (UUID: MIG-1111)
  MIG 1g.5gb      Device  1: (UUID: MIG-GPU-5d5ba0d6-aaaa/7/0)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-c6d4f1ef-bbbb)
"""
WARNED = "WARNING: infoROM is corrupted at gpu 0000:00:1E.0\n" + TWO
A, B, PART, OLD_PART = "GPU-5d5ba0d6-aaaa", "GPU-c6d4f1ef-bbbb", "MIG-1111", "MIG-GPU-5d5ba0d6-aaaa/7/0"


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """A function that makes an nvidia-smi which says something, and ends with a code."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(gpu_list, "_counted_by_torch", lambda: 3)

    def make(text, code=0, seconds=0):
        (tmp_path / "said").write_text(text)
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\nsleep {seconds}\ncat {tmp_path}/said\nexit {code}\n")
        path.chmod(0o755)

    return make


@pytest.mark.parametrize(
    ("text", "code", "gpus"),
    [
        (TWO, 0, [A, B]),
        (WARNED, 14, [A, B]),
        (DIVIDED, 0, [PART, OLD_PART, B]),
        ("No devices were found\n", 6, []),
        ("No devices found.\n", 0, []),
        # where nvidia-smi does not work torch counts: 3 GPUs here
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", 9, ["0", "1", "2"]),
        ("Failed to initialize NVML: Driver/library version mismatch\n", 18, ["0", "1", "2"]),
        ("NVIDIA: could not open the device file /dev/nvidiactl (NoDevFiles).\n", 255, ["0", "1", "2"]),
        ("", 0, ["0", "1", "2"]),
    ],
)
def test_only_uuids_are_gpus(text, code, gpus, tool):
    tool(text, code)
    assert visible_gpus() == gpus


@pytest.mark.parametrize(
    ("value", "gpus"),
    [
        ("1", [B]),
        ("1, GPU-other", [B, "GPU-other"]),
        ("GPU-5d5b", [A]),
        ("0,GPU-5d5ba0d6-aaaa", [A]),
        ("", []),
        ("-1", []),
        ("0,-1,1", [A]),
        ("0,7,1", [A]),
    ],
)
def test_names_are_read_as_cuda_reads_them(value, gpus, tool, monkeypatch):
    tool(TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == gpus


def test_a_number_of_a_divided_card_is_its_first_part(tool, monkeypatch):
    tool(DIVIDED)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert visible_gpus() == [B, PART]


def test_a_tool_that_never_answers_is_not_waited_for(tool, monkeypatch):
    tool(TWO, seconds=30)
    monkeypatch.setattr(gpu_list, "TIMEOUT", 0.5)
    assert visible_gpus() == ["0", "1", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2")
    assert visible_gpus() == ["0", "2"]


def test_without_nvidia_smi_torch_counts_in_another_process(monkeypatch):
    monkeypatch.setattr(gpu_list, "_COUNT", "import os; print(4 * int(os.environ['PYTORCH_NVML_BASED_CUDA_CHECK']))")
    monkeypatch.setattr(gpu_list, "_has_driver", lambda: True)
    gpu_list._counted_by_torch.cache_clear()
    assert gpu_list._counted_by_torch() == 4
    monkeypatch.setattr(gpu_list, "_COUNT", "raise SystemExit(1)")
    gpu_list._counted_by_torch.cache_clear()
    assert gpu_list._counted_by_torch() == 0
    gpu_list._counted_by_torch.cache_clear()


def test_a_machine_without_a_driver_is_not_asked_by_torch():
    script = (
        "import sys; from oodcert.runtime import gpu_list; gpu_list._has_driver = lambda: False;"
        "gpu_list._COUNT = 'print(5)'; print(gpu_list.visible_gpus(), 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PATH": "/nowhere", "PYTHONPATH": str(ROOT / "workflow")}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "[] False\n"
