import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT
from oodcert.errors import InputError
from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import read_evaluations, read_evidence, sidecar, write_evidence
from oodcert.runtime.files import sha256

FRAME = pd.DataFrame({"method": "plain", "set": "id", "sample": [1, 2], "upper": [0.5, np.inf]})


def write(path, frame=FRAME, **extra):
    write_evidence(frame, path, Provenance({"seed": 0}, [__file__]), **extra)


def test_rows_survive_and_the_sidecar_says_where_they_come_from(tmp_path):
    path = tmp_path / "clean" / "plain.parquet"
    write(path, network_calls=7)
    pd.testing.assert_frame_equal(read_evidence([path]), FRAME)
    record = json.loads(sidecar(path).read_text())
    assert record["sha256"] == sha256(path) and record["inputs"] == {__file__: sha256(__file__)}
    assert record["rows"] == 2 and record["network_calls"] == 7 and record["settings"] == {"seed": 0}
    assert len(record["commit"]) == 40 and isinstance(record["dirty"], bool)
    assert {"python", "torch", "numpy"} <= record["packages"].keys()


def test_the_same_rows_are_the_same_bytes(tmp_path):
    write(tmp_path / "a.parquet")
    write(tmp_path / "b.parquet")
    assert sha256(tmp_path / "a.parquet") == sha256(tmp_path / "b.parquet")


def test_evidence_is_grouped_by_evaluation(tmp_path):
    paths = [tmp_path / name for name in ("clean/plain.parquet", "clean/oe.parquet", "attack/plain.parquet")]
    for path in paths:
        write(path)
    assert {name: len(rows) for name, rows in read_evaluations(paths).items()} == {"clean": 4, "attack": 2}


@pytest.mark.parametrize(("frame", "message"), [(FRAME.assign(upper=np.nan), "NaN in upper"), (FRAME[:0], "no rows")])
def test_nan_and_empty_evidence_is_refused_and_nothing_is_left(tmp_path, frame, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path / "x.parquet", frame)
    assert list(tmp_path.iterdir()) == []


def test_missing_and_corrupt_evidence_is_named(tmp_path):
    path = tmp_path / "clean" / "plain.parquet"
    with pytest.raises(InputError, match=r"plain\.parquet does not exist"):
        read_evidence([path])
    write(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"plain\.parquet is not a readable parquet"):
        read_evidence([path])


def test_results_that_are_written_anew_leave_the_code_as_it_was(tmp_path):
    def git(*command):
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        subprocess.run(["git", *identity, *command], cwd=tmp_path, check=True, capture_output=True)

    def dirty():
        code = "from oodcert.evidence.provenance import code_version; print(code_version()['dirty'])"
        environment = os.environ | {"PYTHONPATH": str(tmp_path / "workflow")}
        return subprocess.check_output([sys.executable, "-c", code], text=True, env=environment).strip()

    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "workflow" / "oodcert", tmp_path / "workflow" / "oodcert", ignore=ignore)
    for name in ("results/reference/x.csv", "figures/reference/x.png", "Snakefile"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "all")
    shutil.rmtree(tmp_path / "results")
    shutil.rmtree(tmp_path / "figures")
    assert dirty() == "False"
    (tmp_path / "Snakefile").write_text("2")
    assert dirty() == "True"
