"""The smoke run for a GPU, at tiny sizes: on a CPU, and on an emulated GPU."""

import json
import os
import subprocess
import sys

import pytest
import torch

import gpu_smoke
import gpu_smoke_steps
from conftest import ROOT
from emulated_gpu import emulated_gpu

ALONE = ["fork", "pipeline"]  # steps in processes of their own, which no emulation reaches


@pytest.fixture(autouse=True)
def settings_put_back():
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(deterministic)


def run(out, *arguments):
    code = gpu_smoke.main(["--tiny", "--out", str(out), *arguments])
    return code, json.loads(out.read_text())


def test_the_smoke_run_passes_on_an_emulated_gpu(tmp_path):
    steps = [name for name in gpu_smoke_steps.STEPS if name not in ALONE]
    with emulated_gpu():
        code, record = run(tmp_path / "smoke.json", "--steps", *steps)
    assert code == 0, record["failed"]
    assert list(record["steps"]) == steps and record["steps"]["versions"]["device"] == "cuda (an emulated GPU)"
    assert record["steps"]["spot_checked"]["unchecked on the CPU"] > 0


def test_the_steps_in_processes_of_their_own_pass_on_a_cpu(tmp_path):
    code, record = run(tmp_path / "smoke.json", "--device", "cpu", "--steps", *ALONE)
    assert code == 0, record["failed"]
    assert record["steps"]["pipeline"]["targets"] == 1


def test_it_needs_no_snakemake():
    script = "import sys; sys.modules['snakemake'] = None; import gpu_smoke, gpu_smoke_steps"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/workflow:{ROOT}/benchmarks"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


def test_it_stops_at_the_first_failure_with_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_smoke_steps, "device_noise", lambda *_: torch.rand(3))
    code, record = run(tmp_path / "smoke.json", "--device", "cpu", "--steps", "noise", "memory")
    assert code == 1 and not record["steps"]
    assert record["failed"].startswith("noise failed: noise made on the device is off by")
    assert record["failed"] in capsys.readouterr().err
