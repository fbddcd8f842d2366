"""Triton compiles what a GPU runs in bfloat16, and needs a C compiler: that is said before the run."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml
from torch import nn

from conftest import ROOT, read_config, shrink
from oodcert.certification.precision import prepared
from oodcert.errors import InputError
from oodcert.execution import jobs
from oodcert.runtime import compiler
from oodcert.runtime.compiler import check_compiler


@pytest.fixture
def without(tmp_path, monkeypatch):
    """A machine without a C compiler."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)


def test_a_missing_compiler_is_named_with_the_remedy(without, monkeypatch, tmp_path):
    with pytest.raises(
        InputError, match=r"needs a C compiler, but there is no gcc or clang .*: install gcc, or set prec"
    ):
        check_compiler()
    monkeypatch.setenv("CC", "/nowhere/icc -O2")
    with pytest.raises(InputError, match=r"CC = /nowhere/icc -O2 is not there"):
        check_compiler()
    (tmp_path / "clang").write_text("#!/bin/sh\n")
    (tmp_path / "clang").chmod(0o755)
    monkeypatch.delenv("CC")
    monkeypatch.setattr(compiler.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    with pytest.raises(InputError, match=r"no .*Python\.h: install them \(python3-dev\)"):
        check_compiler()
    (tmp_path / "Python.h").touch()
    check_compiler()


def test_only_bfloat16_on_a_gpu_needs_it(without, monkeypatch):
    prepared([nn.Flatten()], "cpu", "bfloat16"), prepared([nn.Flatten()], "cuda", "float32")
    with pytest.raises(InputError, match="C compiler"):
        prepared([nn.Flatten()], "cuda", "bfloat16")
    monkeypatch.setattr("oodcert.runtime.torch_setup.prepare_torch", lambda device, **_: device)
    settings = {"threads": 1, "precision": "bfloat16"}
    with pytest.raises(InputError, match="C compiler"):
        jobs.prepare_job(SimpleNamespace(device="cuda", **settings), 1)
    assert jobs.prepare_job(SimpleNamespace(device="cpu", **settings), 1) == "cpu"
    assert jobs.prepare_job(SimpleNamespace(device="cuda", threads=1), 1) == "cuda"


@pytest.mark.parametrize(("precision", "code"), [("bfloat16", 1), ("float32", 0)])
def test_a_run_says_so_before_it_trains(precision, code, tmp_path):
    config = shrink(read_config()) | {"device": "cuda"}
    config["evaluation"]["certify_id"]["precision"] = precision
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    start = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
    target = ["data/tiny/id_test.npz", "--cores", "1", "--dry-run", "--configfile", str(tmp_path / "tiny.yaml")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "GPU-a", "CC": "/nowhere/gcc"}
    run = subprocess.run([*start, *target], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert run.returncode == code and ("needs a C compiler" in run.stdout + run.stderr) == bool(code)


def test_the_container_has_a_compiler():
    recipe = (ROOT / "Dockerfile").read_text()
    assert " gcc " in recipe and " libc6-dev " in recipe
