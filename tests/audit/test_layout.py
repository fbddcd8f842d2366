"""The audit's own expectation of settings and inputs is what the evaluations take, though written apart from them."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from conftest import ROOT
from oodcert.audit import rows
from oodcert.audit.layout import EVIDENCE, names_of, rows_of, settings_of
from oodcert.config.load import read_configs
from oodcert.evaluations.registry import EVALUATIONS

PROFILES = [["config"], ["cifar-lite"], ["paper"], ["paper", "paper-cifar100"]]


@pytest.fixture(params=PROFILES, ids="+".join)
def profile(request):
    return read_configs([ROOT / "config" / f"{name}.yaml" for name in request.param])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_settings_are_those_that_the_evaluations_take(profile, precision):
    config = profile.changed(evaluation={name: {"precision": precision} for name in ("certify_l2", "certify_id")})
    for name, evaluation in EVALUATIONS.items():
        for method in names_of(config, name):
            expected = json.loads(json.dumps(settings_of(config, name, method)))
            assert expected == evaluation.settings(config, method).as_json(), (name, method)


def test_rows_have_the_keys_and_columns_of_the_evaluations(profile):
    for name, evaluation in EVALUATIONS.items():
        for method in names_of(profile, name) if name != "authors_code" else ():
            blocks = rows_of(profile, name, method)
            sides = {"id" if one.set in ("id", "id_more") else "ood" for one in blocks}
            assert sides == set(evaluation.sides)
            for row in (row for one in blocks for row in one.rows):
                assert set(evaluation.keys) <= row.keys() <= set(evaluation.schema.names)


def test_every_evaluation_and_the_training_have_files(profile):
    assert {*EVALUATIONS, "training"} == set(EVIDENCE)
    assert [name for name in EVIDENCE if not names_of(profile, name)] in (
        [],
        ["authors_code"],
        ["one_pass", "authors_code"],
    )


def test_rows_of_an_evaluation_that_the_audit_does_not_expect_are_checked_by_its_spec(profile, monkeypatch):
    """Every image has rows, no row is there twice, and no other method's rows or columns are."""
    monkeypatch.setattr(rows, "EVIDENCE", ("clean",))
    ood, n = profile.data.ood, profile.data.test_images
    roster = {name: [*range(n)] for name in ("id", *ood)}
    monkeypatch.setattr(rows, "_roster", lambda _: (roster, []))
    columns = {"epsilon": 0.01, "clean": 0.5, "attacked": 0.6, "maximum": 0.7}
    whole = pd.DataFrame([{"method": "linear", "set": name, "sample": i} for name in ood for i in range(n)]).assign(
        **columns
    )

    def problems(frame):
        run = SimpleNamespace(config=profile, frames={("attack_linear", "linear"): frame})
        result = rows.check_rows(run)
        assert "attack_linear" in result.unchecked[0] and result.compared == len(frame)
        return [finding.problem for finding in result.findings]

    assert problems(whole) == []
    assert problems(whole[1:]) == [f"no row of set = {ood[0]}, sample = 0"]
    assert any("second time" in one for one in problems(pd.concat([whole, whole[:1]], ignore_index=True)))
    assert any("by the spec there is no row of" in one for one in problems(whole.replace({"sample": {0: n}})))
    assert any("another method" in one for one in problems(whole.replace({"method": {"linear": "plain"}})))
    assert problems(whole.drop(columns="maximum")) == ["it is missing, or not expected"]


def test_the_audit_imports_no_torch_and_nothing_that_runs():
    script = (
        "import sys, oodcert.audit; print([name for name in sys.modules if name == 'torch' or "
        "name.startswith(('oodcert.execution', 'oodcert.cli', 'oodcert.models', 'oodcert.training'))])"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT / "workflow")
    assert done.stdout == "[]\n"
