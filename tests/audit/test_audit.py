"""The audit reports nothing of a run as it was, and every change of it: of bytes, and of evidence with its hashes."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from audited_runs import METHODS, forge, forge_manifest, make_run, publish, renew
from conftest import ROOT
from oodcert.audit import CHECKS, audit, carried_out, open_run
from oodcert.audit.files import check_files
from oodcert.cli.main import main
from oodcert.errors import InputError
from oodcert.evidence.manifest import NAME, figures_of


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def results(finished, tmp_path):
    """A copy of the run that a test may change."""
    shutil.copytree(finished.parents[1], tmp_path, dirs_exist_ok=True)
    return tmp_path / "results" / "digits"


def findings_of(results, check):
    """The findings of one check on the run as it lies there."""
    run, manifest = open_run(results)
    return manifest.findings if check == "manifest" else carried_out(check, run).findings


def test_a_run_as_it_was_passes(finished, tmp_path, capsys):
    command = ["audit", str(finished), "--json", str(tmp_path / "audit.json"), "--html", str(tmp_path / "audit.html")]
    assert main(command) == 0
    report = json.loads((tmp_path / "audit.json").read_text())
    assert report["passed"] and not report["findings"] and report["digest"] in capsys.readouterr().out
    assert [one["check"] for one in report["checks"]] == ["manifest", *CHECKS]
    assert all(one["compared"] > 0 for one in report["checks"])
    assert {one["check"] for one in report["checks"] if one["status"] != "ok"} <= {"code"}
    page = (tmp_path / "audit.html").read_text()
    assert "passed" in page and "l2 certificates" in page and "http" not in page, "it needs no network"


def test_processes_that_share_the_checks_find_the_same(results, monkeypatch):
    monkeypatch.delitem(CHECKS, "figures")  # the slowest one; the workflow's own audit shares it
    (results / "checks.csv").write_text("broken")
    alone, shared = audit(results), audit(results, processes=2)
    assert shared.results == alone.results and not shared.passed


def files(results):
    return sorted(path for folder in (results, figures_of(results)) for path in folder.rglob("*") if path.is_file())


def flip(results, generator):
    path = generator.choice(files(results))
    content = bytearray(path.read_bytes())
    content[generator.integers(len(content))] ^= 1 << generator.integers(8)
    path.write_bytes(content)


def cut_off(results, generator):
    path = generator.choice(files(results))
    path.write_bytes(path.read_bytes()[: -int(generator.integers(1, 20))])


def append(results, generator):
    path = generator.choice(files(results))
    path.write_bytes(path.read_bytes() + b" ")


def delete(results, generator):
    generator.choice([path for path in files(results) if path.name != NAME]).unlink()


def add(results, generator):
    path = generator.choice([path for path in files(results) if path.name != NAME])
    path.with_name(f"more_{path.name}").write_bytes(b"1")


def swap(results, generator):
    evaluation = generator.choice(["clean", "certify_l2", "attack_linf", "certify_id"])
    kind = generator.choice(["parquet", "json"])
    one, other = (
        results / "evidence" / evaluation / f"{name}.{kind}" for name in generator.choice(METHODS, 2, replace=False)
    )
    spare = one.with_suffix(".spare")
    one.rename(spare)
    other.rename(one)
    spare.rename(other)


def rows_changed(change):
    """A tampering with the rows of a random evidence file."""

    def tamper(results, generator):
        path = generator.choice(sorted(results.glob("evidence/*/*.parquet")))
        frame = pd.read_parquet(path)
        change(frame, generator).to_parquet(path, index=False)

    return tamper


def one_value(frame, generator):
    column = generator.choice(frame.columns[[pd.api.types.is_float_dtype(dtype) for dtype in frame.dtypes]])
    row = generator.integers(len(frame))
    frame.loc[row, column] = 0.5 if not np.isfinite(frame.loc[row, column]) else frame.loc[row, column] * 1.01 + 1e-6
    return frame


def table_cell(results, generator):
    path = generator.choice(sorted(results.glob("tables/*.csv")))
    lines = path.read_text().splitlines(keepends=True)
    line = generator.integers(1, len(lines))
    digits = [place for place, letter in enumerate(lines[line]) if letter.isdigit()]
    place = generator.choice(digits or [0])
    lines[line] = f"{lines[line][:place]}{'7' if lines[line][place] != '7' else '8'}{lines[line][place + 1 :]}"
    path.write_text("".join(lines))


TAMPERINGS = {
    "a bit flipped": flip,
    "a file cut off": cut_off,
    "a byte appended": append,
    "a file deleted": delete,
    "a file added": add,
    "two methods' files swapped": swap,
    "a value changed": rows_changed(one_value),
    "a row dropped": rows_changed(lambda frame, generator: frame.drop(index=generator.integers(len(frame)))),
    "a row doubled": rows_changed(lambda frame, generator: pd.concat([frame, frame.sample(1, random_state=generator)])),
    "a table's cell changed": table_cell,
}


@pytest.mark.parametrize("seed", range(7))
@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_tampering_is_noticed_by_the_files_alone(results, tampering, seed):
    """The manifest and the files are the audit's first two checks: what they find, it finds."""
    before = {path: path.read_bytes() for path in files(results)}
    TAMPERINGS[tampering](results, np.random.default_rng([seed, *tampering.encode()]))
    changed = {
        path for path in {*before, *files(results)} if not path.exists() or before.get(path) != path.read_bytes()
    }
    run, manifest = open_run(results)
    findings = [*manifest.findings, *(check_files(run).findings if run else [])]
    assert changed and {path.name for path in changed} <= {finding.file.split("/")[-1] for finding in findings}


def setting(row, **values):
    """A forgery: one row, chosen by a function of the frame, gets these values, or what functions of the row give."""

    def change(frame):
        index = frame.index[row(frame)][0]
        for column, value in values.items():
            frame.loc[index, column] = value(frame.loc[index]) if callable(value) else value

    return change


def certified(bound, radius, name="photo_crops", sigma=0.25):
    return lambda frame: (
        (frame["bound"] == bound) & (frame["radius"] == radius) & (frame["set"] == name) & (frame["sigma"] == sigma)
    )


def cheaper_mean(frame):
    """An upper bound on the mean below the mean, with all that follows from it."""
    rows = frame["bound"].isin(["gaussian", "lipschitz"]) & (frame["sample"] == frame["sample"].iloc[-1])
    frame.loc[rows, "upper"] = frame.loc[rows, "lower"]


FORGERIES = [  # evidence/…, how, and the check that notices it once all hashes have been written anew
    (
        "certify_l2/plain",
        setting(certified("percentile", 0.5), upper=lambda row: row["upper"] - 0.05),
        "l2 certificates",
    ),
    (
        "certify_l2/plain",
        setting(certified("percentile", 0.0), lower=lambda row: row["upper"] + 1e-6),
        "l2 certificates",
    ),
    ("certify_l2/plain", setting(certified("percentile", 1.0), upper=1.0), "l2 certificates"),
    ("certify_l2/vos", setting(certified("percentile", 0.25), upper=lambda row: row["lower"]), "l2 certificates"),
    ("certify_l2/vos", setting(certified("percentile", 0.0), estimate=lambda row: row["upper"] + 1), "l2 certificates"),
    ("certify_l2/plain", setting(certified("cdf", 0.5), upper=lambda row: row["upper"] - 0.1), "l2 certificates"),
    (
        "certify_l2/distro",
        setting(certified("cdf", 0.0), estimate=lambda row: row["estimate"] + 1e-4),
        "l2 certificates",
    ),
    (
        "certify_l2/plain",
        setting(certified("gaussian", 0.25), upper=lambda row: row["upper"] - 1e-4),
        "l2 certificates",
    ),
    (
        "certify_l2/distro",
        setting(certified("lipschitz", 0.25), upper=lambda row: row["upper"] - 1e-4),
        "l2 certificates",
    ),
    ("certify_l2/distro", cheaper_mean, "l2 certificates"),
    ("certify_l2/plain", setting(certified("cdf", 0.25), alpha=0.002), "rows"),
    ("certify_l2/plain", setting(certified("cdf", 0.25), sigma=0.3), "rows"),
    (
        "certify_id/plain",
        setting(lambda frame: frame["radius"] > 0, radius=lambda row: row["radius"] + 0.01),
        "certified radii",
    ),
    ("certify_id/distro", setting(lambda frame: frame["prediction"] >= 0, prediction=-1), "values"),
    ("certify_id/vos", setting(lambda frame: ~frame["correct"], correct=True), "values"),
    ("certify_id/vos", setting(lambda frame: frame["label"] > 0, label=0), "values"),
    ("clean/plain", setting(lambda frame: frame["set"] == "photo_crops", score=0.2), "values"),
    ("clean/plain", setting(lambda frame: frame["set"] == "id", score=0.2), "tables"),
    (
        "clean/distro",
        setting(lambda frame: frame["set"] == "id", prediction=lambda row: (row["label"] + 1) % 8),
        "values",
    ),
    ("clean/plain", setting(lambda frame: frame["set"] == "id", score=1.2), "values"),
    ("clean/vos", setting(lambda frame: frame["set"] == "id", sample=1), "rows"),
    (
        "attack_linf/plain",
        setting(lambda frame: frame["attack"] != "clean", attacked=lambda row: row["clean"]),
        "values",
    ),
    ("attack_linf/distro", setting(lambda frame: frame["attack"] != "clean", attack="clean"), "values"),
    ("attack_linf/vos", setting(lambda frame: frame["queries"] > 0, queries=5000), "rows"),
    ("guarantee_linf/distro", setting(lambda frame: ~frame["vacuous"], upper=0.126), "order"),
    ("guarantee_linf/plain", setting(lambda frame: frame["vacuous"], vacuous=False), "values"),
    ("sanity/plain", setting(lambda frame: frame["epsilon"] == 1.0, attacked=0.3), "values"),
    ("attack_l2/plain", setting(lambda frame: frame["radius"] == 0.5, median=0.13, median_lower=0.1), "l2 attacks"),
    ("attack_l2/vos", setting(lambda frame: frame["radius"] == 0.5, mean_lower=0.0), "l2 attacks"),
    (
        "attack_id/plain",
        setting(lambda frame: ~frame["correct"] & (frame["attack"] == "worst-case"), correct=True),
        "values",
    ),
    ("attack_id/distro", setting(lambda frame: frame["clean_correct"], clean_correct=False, correct=False), "values"),
    (
        "attack_linear/linear",
        setting(lambda frame: frame["attacked"] > -99, attacked=lambda row: row["clean"]),
        "order",
    ),
    ("training/plain", setting(lambda frame: frame["epoch"] == 9, value=3.0), "figures"),
    ("training/plain", lambda frame: frame[frame["epoch"] != 9], "rows"),
    ("clean/plain", lambda frame: frame.iloc[1:], "rows"),
    ("certify_l2/vos", lambda frame: frame.drop(index=777), "rows"),
    ("certify_l2/plain", lambda frame: pd.concat([frame, frame.tail(1)]), "rows"),
    ("sanity/vos", lambda frame: frame.assign(method="plain"), "rows"),
    ("attack_id/plain", lambda frame: frame.drop(columns="clean_correct"), "rows"),
    ("attack_l2/plain", lambda frame: frame.astype({"radius": str}), "rows"),
    ("guarantee_linf/vos", setting(lambda frame: frame["upper"] > 0, upper=np.nan), "rows"),
]


@pytest.mark.parametrize(
    ("name", "change", "check"), FORGERIES, ids=[f"{row[0]}-{i}" for i, row in enumerate(FORGERIES)]
)
def test_forged_evidence_is_noticed_although_every_hash_fits(results, name, change, check):
    forge(results, name, change)
    assert (
        not findings_of(results, "manifest")
        and not findings_of(results, "files")
        and not findings_of(results, "sidecars")
    )
    assert findings_of(results, check)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def a_cell(results):
    table = pd.read_csv(results / "tables/ood.csv", dtype=str)
    table.loc[3, "auc"] = "0.999999"
    table.to_csv(results / "tables/ood.csv", index=False)


def a_config(results):
    forge_manifest(results, lambda manifest: manifest["config"]["evaluation"]["certify_l2"].update(alpha=0.002))


def fewer_methods(results):
    forge_manifest(results, lambda manifest: manifest["config"]["methods"].pop("plain"))


def test_forged_tables_are_noticed_cell_by_cell_although_every_hash_fits(results):
    a_cell(results)
    edit(results / "tables/l2.md", "α = 0.001", "α = 0.002")
    edit(results / "tables/id.tex", "100.0", "99.9")
    edit(results / "checks.csv", ",0,", ",1,")
    (results / "tables/sanity.csv").write_bytes((results / "tables/sanity.csv").read_bytes().replace(b"\n", b"\r\n"))
    publish(results)
    assert not findings_of(results, "manifest") and not findings_of(results, "files")
    places = {one.file: one.where for one in findings_of(results, "tables")}
    assert places.keys() == {"tables/ood.csv", "tables/l2.md", "tables/id.tex", "tables/sanity.csv", "checks.csv"}
    assert places["tables/ood.csv"] == "row 4, column auc" and places["tables/l2.md"] == "line 1"
    assert places["checks.csv"] == "row 1, column violations"


FORGED_FILES = {
    "a figure": (
        lambda results: shutil.copy(
            figures_of(results) / "scores.png", figures_of(results) / "headline.png"
        ),
        "figures",
        "as a whole",
    ),
    "another seed": (
        lambda results: renew(
            results / "evidence/clean/vos.json",
            settings=json.loads((results / "evidence/clean/vos.json").read_text())["settings"] | {"seed": 1},
        ),
        "sidecars",
        "settings.seed",
    ),
    "other weights in one evaluation": (
        lambda results: edit(results / "evidence/clean/vos.json", 'vos.safetensors": "', 'vos.safetensors": "0'),
        "sidecars",
        "inputs",
    ),
    "a hash of settings": (
        lambda results: edit(results / "evidence/clean/vos.json", '"settings_sha256": "', '"settings_sha256": "0'),
        "sidecars",
        "settings_sha256",
    ),
    "a sidecar of another type": (
        lambda results: edit(results / "evidence/clean/vos.json", '"rows": ', '"rows": null, "lines": '),
        "sidecars",
        "rows",
    ),
    "a sidecar that is not JSON": (
        lambda results: (results / "evidence/clean/vos.json").write_text("[1"), "files", "as a whole",
    ),
    "evidence that is no parquet": (
        lambda results: (results / "evidence/clean/vos.parquet").write_text("[1"), "files", "as a whole",
    ),
    "evidence without its sidecar": (
        lambda results: (results / "evidence/clean/vos.json").unlink(), "files", "evidence/clean/vos.json",
    ),
    "a table left out": (lambda results: (results / "tables/id.csv").unlink(), "files", "tables/id.csv"),
}  # fmt: skip


@pytest.mark.parametrize("case", FORGED_FILES)
def test_forged_files_are_noticed_although_every_hash_fits(results, case):
    change, check, where = FORGED_FILES[case]
    change(results)
    publish(results)
    findings = findings_of(results, check)
    assert not findings_of(results, "manifest") and findings and where in " ".join(one.where for one in findings)


@pytest.mark.parametrize(("change", "check"), [(a_config, "sidecars"), (fewer_methods, "files")])
def test_another_config_than_the_evidence_has_is_noticed(results, change, check):
    change(results)
    assert not findings_of(results, "manifest") and findings_of(results, check)


def test_an_unavailable_set_is_no_fault(results):
    before = open_run(results)[0].config
    unavailable = {"svhn": "no network"}
    forge_manifest(results, lambda manifest: manifest["config"]["data"].update(unavailable=unavailable))
    run, manifest = open_run(results)
    assert not manifest.findings and not findings_of(results, "rows")
    assert run.config == before.changed(data={"unavailable": unavailable})


@pytest.mark.parametrize("content", ["", "[]", "{", '{"files": []}', "\0"])
def test_a_manifest_that_is_none_is_a_finding(results, content):
    (results / NAME).write_text(content)
    report = audit(results)
    assert not report.passed and report.run is None
    assert {result.status for result in report.results[1:]} == {"not checked"}


def test_a_config_that_is_none_is_a_finding(results):
    forge_manifest(results, lambda manifest: manifest.update(config={"seed": 0, "data": []}))
    assert "lacks" in audit(results).results[0].findings[0].problem


def test_a_manifest_that_names_files_elsewhere_is_refused(results):
    manifest = json.loads((results / NAME).read_text())
    manifest["files"]["../../secret"] = "0" * 64
    (results / NAME).write_text(json.dumps(manifest))
    assert not audit(results).passed


@pytest.mark.parametrize("folder", ["results/none", "elsewhere"])
def test_a_folder_without_a_run_is_an_input_error(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(InputError, match=folder):
        audit(tmp_path / folder)


def test_the_command_needs_no_torch_and_says_what_is_wrong(results):
    a_cell(results)
    script = (
        "import sys; from oodcert.cli.main import main; code = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules, 'torch'; sys.exit(code)"
    )
    page, data = results / "audit" / "report.html", results / "audit" / "report.json"
    command = [sys.executable, "-c", script, "audit", str(results), "--json", str(data), "--html", str(page)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT / "workflow")}
    )
    report = json.loads(data.read_text())
    assert done.returncode == 1 and "FAILED" in done.stdout and "Traceback" not in done.stderr
    assert not report["passed"] and {one["file"] for one in report["findings"]} == {"tables/ood.csv"}
    assert {one["check"] for one in report["checks"] if one["status"] == "FAILED"} == {"files", "tables"}
    assert "row 4, column auc" in done.stdout and "row 4, column auc" in page.read_text()


def test_wrong_usage_is_exit_code_2(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["audit", "--spot-check", "0"])
    assert caught.value.code == 2 and "positive whole number" in capsys.readouterr().err


def test_a_file_that_cannot_be_compared_is_said_and_not_ok(results):
    forge_manifest(results, lambda manifest: manifest["packages"].update(matplotlib="3.0"))
    run, _ = open_run(results)
    result = carried_out("figures", run)
    assert result.status == "not checked" and "matplotlib 3.0" in result.unchecked[0] and not result.findings
