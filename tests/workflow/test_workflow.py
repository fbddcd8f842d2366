"""The whole workflow on tiny settings: every rule runs for real, then what must and must not happen around it."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT, checked
from oodcert.config.method_specs import JOINT_EVALUATIONS
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.evidence.manifest import write_manifest
from oodcert.reporting.figures import FIGURES
from oodcert.reporting.tables import TABLES
from oodcert.runtime.files import sha256
from tiny_workflow import TEN, command, tiny

OF_METHODS = [name for name, spec in EVALUATIONS.items() if spec.methods]
COMPONENTS = ("discriminator", "prood", "denoiser")  # of distro
SHARED = ("data/", "results/tiny/models/", "results/tiny/evidence/")  # files that do not depend on other methods
AUDITED = {"manifest", "audit"}
KILLS = int(os.environ.get("OODCERT_KILLS", "2"))  # of a whole run; make test-kills has more
WRITTEN = {"check", "write_tables", "draw_figures", "tables", "figures", *AUDITED}


def snakemake(folder, *arguments, config=None):
    done = subprocess.run(command(folder, *arguments, config=config), cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def results(folder):
    """Hashes of everything that must be the same in every run of one config."""
    paths = [
        path
        for pattern in ("data/tiny/*", "results/tiny/**/*", "figures/tiny/*")
        for path in folder.glob(pattern)
        if path.is_file() and path.suffix != ".json"
    ]
    return {str(path.relative_to(folder)): sha256(path) for path in paths}


def planned(output):
    """Rules that a dry run would execute; the rule of joint methods is the one of each."""
    found = re.findall(r"^(\w+) +\d+$", output, re.MULTILINE)
    return {rule.removesuffix("_joint") for rule in found} - {"total", "all"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished run of all ten methods on two cores."""
    folder = tmp_path_factory.mktemp("run")
    code, output = snakemake(folder, "--cores", "2")
    assert code == 0, output
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run that a test may break."""
    return shutil.copytree(finished, tmp_path / "run")


def test_every_output_is_there_and_nothing_half_written(finished):
    found = set(results(finished))
    for evaluation in OF_METHODS:
        for method in TEN:
            assert f"results/tiny/evidence/{evaluation}/{method}.parquet" in found
    for table in TABLES:
        assert {f"results/tiny/tables/{table}.{kind}" for kind in ("csv", "md", "tex")} <= found
    for figure in FIGURES:
        assert {f"figures/tiny/{figure}.{kind}" for kind in ("pdf", "png")} <= found
    assert "results/tiny/audit/report.html" in found
    assert not [path for path in found if path.split("/")[-1].startswith(".")]


def test_every_number_can_be_traced(finished):
    paths = sorted((finished / "results/tiny/evidence").glob("*/*.parquet"))
    assert len(paths) == len(OF_METHODS) * len(TEN) + 10 + 1  # of the components' training and of the linear score
    for path in paths:
        record = json.loads(path.with_suffix(".json").read_text())
        assert record["sha256"] == sha256(path)
        assert path.parent.name not in OF_METHODS or record["network_calls"] > 0
        assert record["inputs"] == {name: sha256(finished / name) for name in record["inputs"]}


def test_a_new_ood_set_retrains_nothing(copy):
    np.savez(copy / "mine.npz", images=np.zeros((12, 8, 8, 1), np.uint8))
    config = tiny()
    config["data"]["own"] = {"mine": str(copy / "mine.npz")}
    config["data"]["ood"].append("mine")
    code, output = snakemake(copy, "-n", config=config)
    assert code == 0 and "ood_sets" in planned(output) and "certify_l2" in planned(output)
    assert not planned(output) & {"train", "id_sets", "outlier_sets", "certify_id", "attack_id"}


def test_captions_state_what_the_numbers_rest_on(finished):
    settings = tiny()
    for table, stated in {"id": "0.001", "l2": "0.001"}.items():
        text = (finished / f"results/tiny/tables/{table}.md").read_text()
        assert f"α = {stated}" in text and "n = 50" in text and f"Seed {settings['seed']}" in text
    assert "ID:OOD = 1:1" in (finished / "results/tiny/tables/ood.md").read_text()
    for table in ("id", "autoattack", "ood", "headline"):
        assert "reduced from" in (finished / f"results/tiny/tables/{table}.md").read_text()
    l2 = (finished / "results/tiny/tables/l2.md").read_text()
    assert "The scores of VOS and ATOM have no range" in l2


def test_every_method_is_in_every_table_in_the_order_of_the_config(finished):
    for table in set(TABLES) - {"claims", "reported"}:
        methods = pd.read_csv(finished / f"results/tiny/tables/{table}.csv")["method"]
        assert tuple(methods.unique()) == TEN
    bounds = pd.read_csv(finished / "results/tiny/tables/l2.csv").groupby("method")["bound"].unique()
    assert all(set(bounds[name]) == {"percentile", "one pass", "attack", "one pass attack"} for name in ("vos", "atom"))
    assert all(len(bounds[name]) == 7 for name in TEN if name not in ("vos", "atom"))


def test_a_second_run_does_nothing(finished):
    code, output = snakemake(finished, "--cores", "2")
    assert code == 0 and "Nothing to be done" in output


def killed(folder, config, seconds, kind):
    """Starts a run and kills it, so many seconds after its first job: "all" of it, or one "job". Whether it had not
    ended before."""
    process = subprocess.Popen(
        command(folder, "--cores", "2", config=config), cwd=ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = None
    while process.poll() is None:
        victims = scripts_of(process.pid)
        if victims and deadline is None:
            deadline = time.monotonic() + seconds
        if victims and time.monotonic() > deadline:
            if kind == "all":
                os.killpg(process.pid, signal.SIGKILL)
            else:
                os.kill(victims[-1], signal.SIGKILL)
            break
        time.sleep(0.1)
    return process.wait() != 0


def scripts_of(session):
    """Process ids of the scripts that jobs of a session run."""
    listed = subprocess.run(
        ["ps", "-ww", "-s", str(session), "-o", "pid=,args="], capture_output=True, text=True
    ).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if ".snakemake/scripts/" in line]


def test_a_sharded_run_that_is_killed_again_and_again_ends_with_the_same_bits(finished, tmp_path):
    config = tiny("distro") | {"shards": 2, "chunk": 300}
    moments, kills = random.Random(KILLS), 0
    while kills < KILLS:
        kind = ("all", "job")[kills % 2]
        if not killed(tmp_path, config, moments.uniform(0, 10), kind):
            shutil.rmtree(tmp_path / "results")  # it had ended before
            continue
        kills += 1
        if kind == "all":
            code, output = snakemake(tmp_path, "--cores", "2", config=config)
            assert code != 0 and "kill signal or a power loss" in output and "--unlock" in output
            assert snakemake(tmp_path, "--unlock", config=config)[0] == 0
    code, output = snakemake(tmp_path, "--cores", "2", config=config)
    assert code == 0, output
    found = {path: sha for path, sha in results(tmp_path).items() if path.startswith(SHARED)}
    assert sum("/evidence/" in path for path in found) == len(OF_METHODS) + len(COMPONENTS) + 2
    assert found.items() <= results(finished).items()


def test_shards_of_joint_methods_end_with_the_same_bits(copy):
    names = [
        f"results/tiny/evidence/{one}/{method}.parquet"
        for one in JOINT_EVALUATIONS
        for method in ("diffusion", "distro")
    ]
    before = {name: sha256(copy / name) for name in names}
    for name in names:
        (copy / name).unlink()
    config = tiny("diffusion", "distro") | {"shards": 2}
    code, output = snakemake(copy, "--cores", "2", *names, "--rerun-triggers", "mtime", config=config)
    assert code == 0 and planned(output) == {*JOINT_EVALUATIONS, "gather"}, output
    assert {name: sha256(copy / name) for name in names} == before


def test_a_second_run_in_the_same_folder_is_refused_and_the_first_one_goes_on(tmp_path):
    config = tiny("plain")
    first = subprocess.Popen(
        command(tmp_path, "--cores", "1", "data/tiny/id_test.npz", config=config), cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    while not list(tmp_path.glob(".snakemake/locks/*")):
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGSTOP)  # for as long as the other one takes to start
    code, output = snakemake(tmp_path, "--cores", "1", "data/tiny/id_test.npz", config=config)
    first.send_signal(signal.SIGCONT)
    assert code != 0 and "no other Snakemake process" in output
    assert "steps (100%) done" in first.communicate()[0] and first.returncode == 0


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        (lambda c: c["figures"].update(dpi=123), {"draw_figures", "figures", *AUDITED}),
        (lambda c: c.update(protocol="authors_code"), {"write_tables", "tables", *AUDITED}),
        (lambda c: c["evaluation"]["authors_code"].update(n=30), {"authors_code", *WRITTEN} - {"check"}),
        (
            lambda c: c["evaluation"]["certify_l2"].update(sigmas=[0.25, 0.6]),
            {"certify_l2", "denoised_examples", *WRITTEN},
        ),
        (lambda c: c["evaluation"]["sanity"].update(images=3), {"sanity", *WRITTEN} - {"check"}),
        (
            lambda c: c["evaluation"]["attack_linf"]["square"].update(queries=6),
            {"attack_linf", "sanity", "attack_linear", *WRITTEN},
        ),
        (lambda c: c["training"]["oe"].update(outlier_weight=2.0), {"train", *OF_METHODS, *WRITTEN}),
    ],
)
def test_a_changed_setting_reruns_exactly_what_it_touches(finished, change, rules):
    config = tiny()
    change(config)
    code, output = snakemake(finished, "-n", "--quiet", "rules", config=config)
    assert code == 0 and planned(output) <= rules and planned(output) >= rules - {"tables", "figures"}


def test_without_the_authors_code_there_is_no_ablation(finished):
    config = tiny()
    config["evaluation"]["authors_code"] = None
    code, output = snakemake(finished, "-n", config=config)
    assert code == 0 and "write_tables" in planned(output) and "ablation" not in output
    config["protocol"] = "authors_code"
    code, output = snakemake(finished, "-n", config=config)
    assert code != 0 and "needs the evidence of the authors' code" in output and "Traceback" not in output


def test_the_protocol_of_the_authors_code_is_written_by_the_tables_alone(copy):
    config = tiny() | {"protocol": "authors_code"}
    before = results(copy)
    assert snakemake(copy, "--cores", "2", "tables", config=config)[0] == 0
    changed = {path for path, sha in results(copy).items() if before[path] != sha}
    assert changed == {
        f"results/tiny/tables/{name}.{kind}" for name in ("ood", "headline") for kind in ("csv", "md", "tex")
    }
    assert "AUTHORS' CODE" in (copy / "results/tiny/tables/ood.md").read_text()


def test_a_changed_method_leaves_the_others_alone(finished):
    config = tiny()
    config["training"]["oe"]["outlier_weight"] = 2.0
    _, output = snakemake(finished, "-n", config=config)
    jobs = [set(message.split()) for message in re.findall(r"^Job \d+: (.*)$", output, re.MULTILINE)]
    assert sum("oe" in words for words in jobs) == 1 + len(OF_METHODS)
    assert sum("diffusion" in words for words in jobs) == len(OF_METHODS)  # whose classifier is that of oe
    assert not any(words & {*TEN} - {"oe", "diffusion", "distro"} for words in jobs)
    assert sum("distro" in words for words in jobs) == len(JOINT_EVALUATIONS)  # those of diffusion as well


def test_a_bad_config_is_refused_in_one_paragraph(tmp_path):
    config = tiny()
    config["evaluation"]["certify_l2"]["sigma"] = 0.1
    code, output = snakemake(tmp_path, "-n", config=config)
    assert code != 0 and "'sigma' (did you mean 'sigmas'?)" in output and "Traceback" not in output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "nowhere.yaml"),
        ("profile: [", "Config file is not valid JSON or YAML"),
        ("!!python/object/apply:os.system ['touch executed']", "Config file is not valid JSON or YAML"),
        ("seed: 1", "lacks chunk, data, data_mirror"),
    ],
)
def test_a_config_that_is_no_config_is_refused(tmp_path, content, message):
    path = tmp_path / "nowhere.yaml"
    if content is not None:
        path.write_text(content)
    start = [sys.executable, "-m", "snakemake", "-n", "--snakefile", str(ROOT / "Snakefile"), "--directory", tmp_path]
    done = subprocess.run([*start, "--configfile", path], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0 and message in done.stdout + done.stderr
    assert not (tmp_path / "executed").exists() and not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("results/tiny/evidence/clean/plain.parquet", b"PAR1 cut off", "clean/plain.parquet is not a readable parquet"),
        ("results/tiny/models/plain.safetensors", b"cut off", "plain.safetensors is not a readable safetensors"),
        ("data/tiny/photo_crops.npz", b"<html>", "photo_crops.npz: not a readable npz"),
        ("results/tiny/evidence/denoised.npz", b"PK cut off", "denoised.npz"),
    ],
)
def test_a_corrupt_file_stops_the_run_and_is_named(copy, path, content, message):
    (copy / path).write_bytes(content)
    before = {file for file in results(copy) if "tables" in file}
    code, output = snakemake(copy, "--cores", "2", "--rerun-triggers", "mtime")
    assert code != 0 and message in output
    left = results(copy)
    assert not [file for file in left if file.split("/")[-1].startswith(".")]
    assert {file for file in left if "tables" in file} <= before


def test_the_report_shows_every_table_and_figure_under_its_caption(finished):
    code, output = snakemake(finished, "--report", "report.html")
    assert code == 0, output
    text = (finished / "report.html").read_text()
    assert "A replication of DISTRO" in text
    shown, categories = (
        json.loads(re.search(rf"^ *var {name} = ({{.*}});$", text, re.MULTILINE)[1])
        for name in ("results", "categories")
    )
    tables = {f"results/tiny/tables/{table}.{kind}": table for table in TABLES for kind in ("csv", "md")}
    figures = {f"figures/tiny/{figure}.png": figure for figure in FIGURES}
    for category, kind, paths in (("Tables", "table", tables), ("Figures", "figure", figures)):
        listed = [path for group in categories[category].values() for path in group]
        assert sorted(listed) == sorted(paths)
        for path, name in paths.items():
            assert shown[path]["labels"][kind] == name
            template = (ROOT / f"workflow/report/{kind}_{name}.rst").read_text()
            plain = re.sub(r"{%.*?%}|{{.*?}}|[^\w\s]", "@", template, flags=re.DOTALL)
            words = max(plain.split("@"), key=len).split()
            assert " ".join(words[1:-1]) in " ".join(re.sub("<[^>]*>", "", shown[path]["caption"]).split())
            assert "Seed 0" in shown[path]["caption"] and "{{" not in shown[path]["caption"]


def test_a_finished_run_is_shown_in_the_notebook_and_packed(copy):
    found = [path for name in ("evidence", "tables") for path in (copy / f"results/tiny/{name}").rglob("*.*")]
    write_manifest(copy / "results/tiny", checked(tiny()), [*found, *(copy / "figures/tiny").iterdir()])
    code, output = snakemake(copy, "--cores", "1", "notebook", "crate")
    assert code == 0, output
    assert {path.name for path in (copy / "exports/tiny").iterdir()} == {"analysis.ipynb", "analysis.html", "crate.zip"}
