"""The workflow as a module of another one: everything is found beside its own Snakefile."""

import os
import subprocess
import sys

import pytest
import yaml

from conftest import ROOT
from tiny_workflow import tiny

MODULE = 'module oodcert:\n    snakefile: "{}"\n    config: config\n\n\nuse rule * from oodcert{}\n'
BARE = "import sys; sys.path[:] = [path for path in sys.path if not path.endswith('/workflow')]; "
BARE += "from snakemake.cli import main; main()"  # in an environment of the libraries alone


@pytest.fixture
def run(tmp_path):
    """A snakemake command in the folder of a workflow that has ours as a module."""

    def run(*words, rules="", start=("-m", "snakemake"), **environment):
        (tmp_path / "Snakefile").write_text(MODULE.format(ROOT / "Snakefile", rules))
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny("plain"), sort_keys=False))
        command = [sys.executable, *start, *words, "--cores", "2", "--configfile", "tiny.yaml"]
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)

    return run


def test_rules_of_the_module_run_under_names_of_their_own(run, tmp_path):
    done = run("results/tiny/evidence/clean/plain.parquet", rules=" as ood_*", start=("-c", BARE))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "results/tiny/evidence/clean/plain.parquet").exists()


def test_tables_figures_audit_and_paper_can_be_planned(run):
    done = run("-n", "tables", "figures", "results/tiny/audit/report.html", "exports/tiny/analysis.ipynb", "paper")
    assert done.returncode == 0, done.stdout + done.stderr


def test_another_oodcert_is_refused(run, tmp_path):
    (tmp_path / "other" / "oodcert").mkdir(parents=True)
    (tmp_path / "other" / "oodcert" / "__init__.py").write_text("")
    start = ("-c", "import oodcert; from snakemake.cli import main; main()")
    done = run("-n", start=start, PYTHONPATH=str(tmp_path / "other"))
    assert done.returncode != 0 and "other/oodcert/__init__.py was imported before" in done.stdout + done.stderr


def test_of_two_checkouts_the_one_whose_snakefile_runs_is_used(run, tmp_path):
    (tmp_path / "other" / "oodcert").mkdir(parents=True)
    (tmp_path / "other" / "oodcert" / "__init__.py").write_text("raise RuntimeError('the wrong one')")
    done = run("-n", "results/tiny/evidence/clean/plain.parquet", PYTHONPATH=str(tmp_path / "other"))
    assert done.returncode == 0, done.stdout + done.stderr
