"""Traces of what torch does: of some seconds of a body, of a job, and without a trace in the results."""

import gzip
import json
import subprocess
import sys
import time

import pytest
import torch
import yaml

from conftest import ROOT, read_config, shrink
from oodcert.runtime import tracing
from oodcert.runtime.tracing import traced


def operations(path):
    """Names of the traced operations."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return {event["name"] for event in json.loads(content)["traceEvents"] if event.get("cat") == "cpu_op"}


@pytest.mark.parametrize("name", ["trace.json", "new/trace.json.gz"])
def test_a_trace_holds_the_operations_of_the_body(name, tmp_path):
    with traced(tmp_path / name):
        torch.ones(3).cosh()
    torch.ones(3).sinh()
    assert "aten::cosh" in operations(tmp_path / name) and "aten::sinh" not in operations(tmp_path / name)


def test_a_long_body_is_traced_for_some_seconds_later_on(tmp_path, monkeypatch):
    monkeypatch.setattr(tracing, "SECONDS", 0.2)
    monkeypatch.setattr(tracing, "LATER", 1.0)
    ones = torch.ones(3)

    def repeat(seconds, function):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            function()
            time.sleep(0.01)

    for name, seconds, expected in (("short", 0.3, "aten::cosh"), ("long", 2.0, "aten::sinh")):
        with traced(tmp_path / f"{name}.json"):
            repeat(0.5, ones.cosh)
            repeat(seconds, ones.sinh)
        assert operations(tmp_path / f"{name}.json") & {"aten::cosh", "aten::sinh"} == {expected}


def test_a_body_that_fails_leaves_no_trace(tmp_path):
    with pytest.raises(ZeroDivisionError), traced(tmp_path / "trace.json"):
        1 / 0  # noqa: B018
    assert not list(tmp_path.iterdir())


def test_jobs_of_the_workflow_are_traced_and_their_results_do_not_know_it(tmp_path):
    config = shrink(read_config())
    config["methods"] = {"plain": config["methods"]["plain"]}
    path, target = tmp_path / "tiny.yaml", "results/tiny/evidence/certify_l2/plain.parquet"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    start = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path]
    start += ["--configfile", path, "--cores", "1"]
    done = subprocess.run([*start, "--config", "profile_trace=true", "--", target], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    traces = tmp_path / "logs/tiny/trace"
    assert "aten::conv2d" in operations(traces / "certify_l2/plain.json.gz")
    logs = {log.relative_to(tmp_path / "logs/tiny").with_suffix("") for log in tmp_path.glob("logs/tiny/**/*.log")}
    assert logs == {one.relative_to(traces).with_suffix("").with_suffix("") for one in traces.glob("**/*.json.gz")}
    again = subprocess.run([*start, "-n", "--", target], capture_output=True, text=True)
    assert "Nothing to be done" in again.stdout + again.stderr
    record = json.loads((tmp_path / target).with_suffix(".json").read_text())
    assert "profile_trace" not in record["settings"] and "precision" not in record["settings"]
