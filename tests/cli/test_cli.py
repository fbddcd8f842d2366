import gzip
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from inspect import signature
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import oodcert
from conftest import ROOT
from oodcert.cli import partial_certificates
from oodcert.cli.main import main
from oodcert.models.weight_files import load_weights

MODULE = """
import os, time
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self, classes=3):
        super().__init__(nn.Flatten(), nn.Linear(12, classes))

    def forward(self, images):
        time.sleep(float(os.environ.get("NAP", 0)))
        return super().forward(images)

class Dice(Net):
    def forward(self, images):
        return super().forward(images) + torch.randn(3)

def seeded():
    torch.manual_seed(5)
    return Net()

def broken():
    return Net().requires_grad_(False).apply(lambda part: [tensor.fill_(float("nan")) for tensor in part.parameters()])

def needy(classes):
    return Net(classes)

def highest(logits):
    return logits.amax(1)

def sure(logits):
    return logits.softmax(1).amax(1)

def matrix(logits):
    return logits

ready, number = seeded(), 5
"""
TABLE = [f"guaranteed.{kind}" for kind in ("csv", "md", "pdf", "png", "tex")]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with a module of networks and three sets of 6, 6 and 5 images [3, 2, 2]."""
    (tmp_path / "strange.py").write_text(MODULE)
    rng = np.random.default_rng(0)
    for name, count in (("ours", 6), ("near", 6), ("far", 5)):
        np.savez(tmp_path / f"{name}.npz", images=rng.integers(0, 256, (count, 2, 2, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "strange", raising=False)
    yield tmp_path
    sys.modules.pop("strange", None)
    torch.use_deterministic_algorithms(False)


def command(**changes):
    """Arguments of a small run with changes; None drops one."""
    options = {"network": "strange:seeded", "id": "ours.npz", "ood": "near.npz far.npz", "n": 60, "batch_size": 16}
    options |= {"bounds": "percentile gaussian", "sigma": "0.25 0.5", "radii": "0.1", "device": "cpu"} | changes
    words = (f"--{key.replace('_', '-')} {value}" for key, value in options.items() if value is not None)
    return ["certify", *" ".join(words).split()]


def refused(capsys, *words, **changes):
    """The command ends with 1, one paragraph with the words on stderr, and leaves no results."""
    assert main(command(**changes)) == 1
    text = capsys.readouterr().err
    assert text.startswith("oodcert: ") and text.count("\n") == 1
    for word in words:
        assert word in text, f"{word!r} is not in: {text}"
    assert not Path("certified").exists()


def evidence(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.parquet"))}


def test_a_run_writes_evidence_table_and_figure(here, capsys):
    assert main(command()) == 0
    names = [*(f"{name}.{kind}" for name in ("far", "near", "ours") for kind in ("json", "parquet")), "settings.json"]
    assert sorted(path.name for path in Path("certified").iterdir()) == sorted([*names, *TABLE])
    rows, record = pd.read_parquet("certified/far.parquet"), json.loads(Path("certified/far.json").read_text())
    assert len(rows) == 5 * 2 * 2 * 2 and set(rows["radius"]) == {0.0, 0.1}
    assert record["network_calls"] == 5 * 60 * 2 and record["settings"]["n"] == 60 and "far.npz" in record["inputs"]
    assert record["settings"]["device"] == "cpu" and record["wall_seconds"] >= 0
    table = pd.read_csv("certified/guaranteed.csv")
    assert table.columns.tolist() == ["sigma", "bound", "radius", "set", "auc", "aupr", "fpr95", "confidence"]
    assert (table["confidence"] == 0.99).all()
    assert len(table) == 2 * 2 * 2 * 3 and table["set"].tolist()[:3] == ["near", "far", "average"]
    assert table["bound"].tolist()[0] == "percentile"
    first = table.iloc[:3]["auc"]
    assert first[2] == pytest.approx(first[:2].mean(), abs=1e-6)
    shown = capsys.readouterr().out
    assert f"{100 * first[2]:.1f}" in shown and "average" in shown and "near" not in shown
    assert "with a confidence of 99 %" in shown
    text = Path("certified/guaranteed.md").read_text()
    assert "(all 2 OOD sets and their average at once) hold with a confidence of 99 %" in text and "α = 0.001" in text


def test_the_one_pass_detector_is_certified_as_by_the_library(here, capsys):
    words = {"n": 200, "bounds": None, "detector": "one-pass"}
    assert main(command(**words)) == 0
    shown, table, curve = capsys.readouterr().out, *map(pd.read_csv, ("certified/guaranteed.csv", "certified/roc.csv"))
    import strange

    for sigma in (0.25, 0.5):
        for name in ("near", "far"):
            expected = oodcert.certified_roc(
                oodcert.Detector(strange.seeded()),
                *(oodcert.load_images(f"{one}.npz") for one in ("ours", name)),
                sigma,
                radii=(0.0, 0.1),
                draws=200,
                confidence=0.995,  # so that both sets hold at once with 0.99
                batch_size=16,
            )
            of_set = "sigma == @sigma and set == @name"
            metrics = ["radius", "auc", "aupr", "fpr95", "threshold"]
            found = table.query(of_set)[metrics].reset_index(drop=True)
            pd.testing.assert_frame_equal(found, expected.metrics[metrics], rtol=0, atol=1e-6)
            assert found["threshold"].tolist() == expected.metrics["threshold"].tolist()
            rows = curve.query(of_set).drop(columns=["sigma", "set"]).reset_index(drop=True)
            pd.testing.assert_frame_equal(rows, expected.curve, rtol=1e-12)
    assert "One pass a query" in shown and str(found["threshold"].iloc[0]) in shown and "99 %" in shown
    assert "200 draws an image" in Path("certified/guaranteed.md").read_text()
    before = evidence("certified")
    for name in ("far.parquet", "far.json"):
        Path("certified", name).unlink()
    assert main(command(**words)) == 0 and evidence("certified") == before


def test_a_population_has_one_draw_an_image_and_too_few_have_no_threshold(here, capsys):
    words = {"n": None, "bounds": None, "detector": "one-pass --population --tries 2", "ood": "far.npz"}
    assert main(command(**words)) == 0
    assert "Give more images" in capsys.readouterr().out
    assert len(pd.read_parquet("certified/far.parquet")) == 5 * 2
    text = Path("certified/guaranteed.md").read_text()
    assert "populations" in text and "2 tries" in text and "none" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"detector": "one-pass", "bounds": None, "alpha": "0.01"}, ("--alpha belongs to --detector smoothed",)),
        ({"tries": "2"}, ("--tries belongs to --detector one-pass",)),
        ({"detector": "smoothed --population"}, ("--population belongs to --detector one-pass",)),
    ],
)
def test_options_of_the_other_detector_are_refused(here, capsys, changes, words):
    refused(capsys, *words, **changes)


def test_a_trace_is_written_beside_the_same_results(here):
    assert main(command()) == 0
    assert main(command(out="again", profile_trace="trace.json.gz")) == 0
    assert evidence("again") == evidence("certified")
    assert b"aten::linear" in gzip.decompress(Path("trace.json.gz").read_bytes())


def test_bfloat16_is_another_precision_and_said_so(here):
    assert main(command(precision="bfloat16")) == 0
    assert json.loads(Path("certified/settings.json").read_text())["precision"] == "bfloat16"
    assert "network in bfloat16" in Path("certified/guaranteed.md").read_text()
    assert main(command()) == 1


def test_the_numbers_are_those_of_the_library(here):
    main(command(sigma="0.5", ood="far.npz"))
    import strange

    detector = oodcert.Detector(strange.seeded())
    options = {"sigma": 0.5, "radii": [0.0, 0.1], "n": 60, "alpha": 0.001, "bounds": ["percentile", "gaussian"]}
    tables = [
        oodcert.certify(detector, oodcert.load_images(f"{name}.npz"), **options, batch_size=16, name=f"certify/{name}")
        for name in ("ours", "far")
    ]
    for name, table in zip(("ours", "far"), tables, strict=True):
        pd.testing.assert_frame_equal(pd.read_parquet(f"certified/{name}.parquet"), table, check_dtype=False)
    found = pd.read_csv("certified/guaranteed.csv").sort_values(["bound", "radius"])
    expected = oodcert.guaranteed_metrics(*tables)[["auc", "aupr", "fpr95"]]
    assert found[expected.columns].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-6)
    assert set(found["set"]) == {"far"}


@pytest.mark.parametrize(
    "changes",
    [
        {"score": "energy", "bounds": None},
        {"bounds": None, "sampling": "adaptive"},
        {"score": "strange:sure", "network": "strange:ready"},
        {"score": "strange:highest", "bounds": "percentile", "images": 3, "size": 2},
    ],
)
def test_other_scores_bounds_and_samplings(here, changes):
    assert main(command(**changes)) == 0
    rows = pd.read_parquet("certified/near.parquet")
    count = 1 if changes.get("score") in ("energy", "strange:highest") else 2 if "bounds" not in changes else 4
    assert rows["bound"].nunique() == count and rows["n"].max() <= 60
    if "images" in changes:
        assert rows["image"].unique().tolist() == [0, 2, 4]


def test_a_second_run_does_nothing_and_other_settings_are_refused(here, capsys):
    assert main(command()) == 0
    before = evidence("certified")
    capsys.readouterr()
    assert main(command()) == 0 and "nothing to do" in capsys.readouterr().out
    assert main(command(n=70, sigma="0.5")) == 1
    text = capsys.readouterr().err
    assert "n was 60, is 70" in text and "sigma was [0.25, 0.5], is [0.5]" in text and "--out" in text
    np.savez("far.npz", images=np.zeros((5, 2, 2, 3), np.uint8))
    assert main(command()) == 1 and "far_sha256 was" in capsys.readouterr().err
    save_file(nn.Linear(12, 3).state_dict(prefix="1."), "other.safetensors")
    assert main(command(weights="other.safetensors")) == 1 and "network_sha256 was" in capsys.readouterr().err
    assert evidence("certified") == before


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("return super().forward(images)\n", "return 9 * super().forward(images)\n", ["code_sha256", "probe_scores"]),
        ("return logits.softmax(1).amax(1)", "return logits.softmax(1).amin(1)", ["code_sha256", "probe_scores"]),
    ],
)
def test_results_of_other_code_are_refused_also_after_a_kill(here, capsys, before, after, named):
    options = command(score="strange:sure")
    assert main(options) == 0
    Path("certified/guaranteed.csv").unlink()
    Path("certified/near.json").unlink()
    source = Path("strange.py").read_text()
    assert before in source
    Path("strange.py").write_text(source.replace(before, after))
    del sys.modules["strange"]
    capsys.readouterr()
    assert main(options) == 1
    words = capsys.readouterr().err
    assert all(f"{name} was" in words for name in named), words


def test_a_forward_that_reads_a_file_is_told_by_its_scores(here, capsys):
    reading = "return float(open('gain').read()) * super().forward(x)"
    Path("strange.py").write_text(f"{MODULE}class Reader(Net):\n    def forward(self, x):\n        {reading}\n")
    Path("gain").write_text("1")
    options = command(network="strange:Reader")
    assert main(options) == 0
    Path("gain").write_text("1.5")
    capsys.readouterr()
    assert main(options) == 1
    words = capsys.readouterr().err
    assert "probe_scores was" in words and "code_sha256" not in words


def test_a_lost_table_is_made_again_from_the_evidence(here, monkeypatch):
    assert main(command()) == 0
    Path("certified/guaranteed.csv").unlink()
    monkeypatch.setattr(partial_certificates, "write_evidence", None)
    before = evidence("certified")
    assert main(command()) == 0 and Path("certified/guaranteed.csv").exists() and evidence("certified") == before


def test_files_of_unknown_origin_are_not_overwritten(here, capsys):
    Path("results").mkdir()
    Path("results/far.parquet").write_bytes(b"precious")
    refused(capsys, "results/far.parquet", "settings.json", out="results")
    assert Path("results/far.parquet").read_bytes() == b"precious"
    Path("results/settings.json").write_text("{")
    refused(capsys, "results/settings.json", "far.parquet", out="results")
    refused(capsys, "strange.py is a file", out="strange.py")


ADAPTIVE = {"sampling": "adaptive", "n": 400, "batch_size": 100}


def test_adaptive_sampling_takes_fewer_draws_and_compares_the_ood_sets_with_the_id_set(here):
    assert main(command(**ADAPTIVE | {"sampling": "fixed"}, out="fixed")) == 0
    assert main(command(**ADAPTIVE)) == 0
    for name in ("ours", "near", "far"):
        fixed, rows = (pd.read_parquet(f"{out}/{name}.parquet") for out in ("fixed", "certified"))
        assert set(fixed["n"]) == {400} and rows["n"].mean() < 400 and rows["n"].isin([128, 256, 400]).all()
        assert set(rows["radius"]) == ({0.0} if name == "ours" else {0.0, 0.1})
        record = json.loads(Path(f"certified/{name}.json").read_text())
        assert record["network_calls"] == rows.drop_duplicates(["image", "sigma"])["n"].sum()
    import strange

    for sigma, id_rows in pd.read_parquet("certified/ours.parquet").groupby("sigma"):
        options = {"radii": [0.0, 0.1], "n": 400, "bounds": ["percentile", "gaussian"], "batch_size": 100}
        expected = oodcert.certify(
            oodcert.Detector(strange.seeded()),
            oodcert.load_images("near.npz"),
            sigma,
            **options,
            sampling="adaptive",
            decision_thresholds=id_rows,
            name="certify/near",
        )
        found = pd.read_parquet("certified/near.parquet").query("sigma == @sigma").reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert "n ≤ 400" in Path("certified/guaranteed.md").read_text()
    assert "n = 400" in Path("fixed/guaranteed.md").read_text()


@pytest.mark.parametrize(("changes", "fewest"), [({}, 2), (ADAPTIVE, 1), (ADAPTIVE, 3)])
def test_a_killed_run_resumes_and_gives_the_same_bytes(here, monkeypatch, changes, fewest):
    environment = {**os.environ, "NAP": "0.02", "PYTHONPATH": str(Path(oodcert.__file__).parents[1])}
    words = [sys.executable, "-m", "oodcert", *command(**changes)]
    run = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)

    def kept():
        return [*Path("certified").glob(".*.partial-results/[!.]*.partial")]

    try:
        deadline = time.monotonic() + 60
        while len(kept()) < fewest:
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    before = len(kept())
    assert fewest <= before < 6 and not Path("certified/far.parquet").exists()
    certified, real = [], partial_certificates.save_partial
    monkeypatch.setattr(
        partial_certificates, "save_partial", lambda path, *a, **k: (certified.append(path), real(path, *a, **k))
    )
    assert main(command(**changes)) == 0 and not kept()
    assert len(certified) == 6 - before
    assert main(command(**changes, out="whole")) == 0
    assert evidence("certified") == evidence("whole")
    assert Path("certified/guaranteed.png").read_bytes() == Path("whole/guaranteed.png").read_bytes()


@pytest.mark.parametrize("changes", [{}, ADAPTIVE])
def test_an_interrupted_network_with_draws_of_its_own_gives_the_same_bytes(here, monkeypatch, capsys, changes):
    monkeypatch.setattr(partial_certificates, "DRAWS", 2 * changes.get("n", 60))
    real, calls = oodcert.certify, []

    def impatient(*args, **options):
        calls.append(options["n"])
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(*args, **options)

    changes = {"network": "strange:Dice"} | changes
    assert main(command(**changes, out="whole")) == 0
    monkeypatch.setattr(oodcert, "certify", impatient, raising=False)
    assert main(command(**changes)) == 130
    assert "same command resumes" in capsys.readouterr().err
    assert len(list(Path("certified").glob(".*.partial-results/*.partial"))) == 4
    assert main(command(**changes)) == 0
    assert len(calls) == 6 + 1 + 18 - 4  # ranges of 2 images: 3 a set and sigma
    assert evidence("certified") == evidence("whole")


@pytest.mark.parametrize("changes", [{}, ADAPTIVE])
def test_a_lost_set_is_certified_again(here, changes):
    assert main(command(**changes)) == 0
    before = evidence("certified")
    for name in ("far.parquet", "far.json"):
        Path("certified", name).unlink()
    assert main(command(**changes)) == 0 and evidence("certified") == before


def test_a_dry_run_measures_and_writes_nothing(here, capsys):
    assert main([*command(), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "ours 6, near 6, far 5" in shown and f"{17 * 60 * 2:,} (" in shown and "certified/far.parquet" in shown
    assert "0:00:0" in shown and " s for 16 calls on cpu" in shown
    assert main([*command(sampling="adaptive"), "--dry-run"]) == 0
    assert "at most 2,040" in capsys.readouterr().out
    assert not Path("certified").exists()


def test_weights_are_loaded(here):
    state = nn.Linear(12, 3).state_dict(prefix="1.")
    save_file(state, "net.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, "net.pt")
    small = {"sigma": "0.5", "ood": "far.npz"}
    assert main(command(**small, weights="net.safetensors", out="out0")) == 0
    assert main(command(**small, weights="net.pt", out="out1")) == 0
    assert main(command(**small, out="out2")) == 0
    assert evidence("out0") == evidence("out1") != evidence("out2")
    assert "net.pt" in json.loads(Path("out1/far.json").read_text())["inputs"]


@pytest.mark.parametrize(
    "wrap", [dict, lambda state: {"state_dict": state, "epoch": 3}, lambda state: {"model": state}]
)
def test_a_state_dict_may_lie_inside_a_checkpoint(tmp_path, wrap):
    state = nn.Linear(2, 3).state_dict()
    torch.save(wrap(state), tmp_path / "net.pt")
    assert torch.equal(load_weights(nn.Linear(2, 3), tmp_path / "net.pt").weight, state["weight"])


class Malice:
    def __reduce__(self):
        return Path.write_text, (Path("owned"), "by a pickle")


def test_weights_that_do_not_fit_or_run_code_are_refused(here, capsys):
    Path("evil.pt").write_bytes(pickle.dumps({"state_dict": Malice()}, protocol=2))
    torch.save({"1.weight": Malice()}, "evil2.pt")
    for path in ("evil.pt", "evil2.pt"):
        refused(capsys, path, "could run code", weights=path)
        assert not Path("owned").exists()
    torch.save({"1.weight": torch.zeros(3, 11), "2.bias": torch.zeros(3)}, "other.pt")
    refused(capsys, "other.pt", "1.bias", "2.bias", "(3, 11)", weights="other.pt")
    torch.save({"epoch": 3}, "none.pt")
    refused(capsys, "none.pt", "no state dict", weights="none.pt")
    Path("torn.pt").write_bytes(Path("other.pt").read_bytes()[:-100])
    refused(capsys, "torn.pt", weights="torn.pt")
    Path("torn.safetensors").write_bytes(b"\x00" * 20)
    refused(capsys, "torn.safetensors", "not a readable", weights="torn.safetensors")
    refused(capsys, "missing.pt", "no such file", weights="missing.pt")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": "strange"}, ["'strange'", "module:name"]),
        ({"network": "strangest:net"}, ["strangest", "Run from the folder"]),
        ({"network": "strange:nothing"}, ["no attribute 'nothing'"]),
        ({"network": "strange:needy"}, ["without arguments", "classes"]),
        ({"network": "strange:number"}, ["a int", "torch.nn.Module"]),
        ({"network": "strange:highest"}, ["without arguments"]),
        ({"network": "os:getcwd"}, ["a str", "torch.nn.Module"]),
        ({"network": "strange:broken"}, ["NaN"]),
        ({"score": "softmax"}, ["'softmax'", "msp"]),
        ({"score": "strange:nothing"}, ["nothing"]),
        ({"score": "strange:number"}, ["Unknown score 5", "callable"]),
        ({"score": "strange:matrix"}, ["(1, 3)", "--score"]),
        ({"score": "energy"}, ["gaussian", "percentile"]),
        ({"ood": "near.npz ours.npz"}, ["ours.npz", "'ours'", "Rename"]),
        ({"ood": "average.npz"}, ["average.npz", "reserved"]),
        ({"ood": "nowhere.npz"}, ["nowhere.npz"]),
        ({"ood": "large.npz"}, ["large.npz", "(1, 3, 9, 9)", "--size"]),
    ],
)
def test_input_that_cannot_be_used_ends_with_one_paragraph(here, capsys, changes, words):
    np.savez("large.npz", images=np.zeros((2, 9, 9, 3), np.uint8))
    np.savez("average.npz", images=np.zeros((2, 2, 2, 3), np.uint8))
    refused(capsys, *words, **changes)


def test_a_fault_found_on_the_way_does_not_bind_the_folder(here, capsys):
    assert main(command(score="strange:highest")) == 1
    assert "needs" in capsys.readouterr().err.splitlines()[-1]
    assert main(command(score="strange:highest", bounds="percentile")) == 0


def test_a_folder_that_cannot_be_made_ends_with_one_paragraph(here, capsys):
    refused(capsys, "ours.npz/out", "permissions", out="ours.npz/out")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize(
    "file",
    [
        ".settings.partial.json",
        ".near.partial.parquet",
        ".near.partial-results/.0.5-0.partial.partial",
        ".guaranteed.partial.pdf",
    ],
)
def test_a_full_disk_ends_with_one_paragraph_and_the_command_resumes(here, capsys, file):
    full = Path("certified", file)
    full.parent.mkdir(parents=True)
    full.symlink_to("/dev/full")
    assert main(command()) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("oodcert: ") and "No space left on device" in last and "disk space" in last
    assert main(command()) == 0 and main(command(out="whole")) == 0
    assert evidence("certified") == evidence("whole")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_ends_with_one_paragraph(here, capsys):
    Path("locked").mkdir(mode=0o555)
    refused(capsys, "locked/settings", "permissions", out="locked")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said(here, capsys):
    refused(capsys, "cuda", "no GPU", device="cuda")


@pytest.mark.parametrize(
    "changes",
    [{"n": 0}, {"sigma": "-1"}, {"sigma": "nan"}, {"alpha": 1}, {"radii": "-0.1"}, {"id": None}, {"bounds": "x"}],
)
def test_wrong_usage_ends_with_2(capsys, changes):
    with pytest.raises(SystemExit) as caught:
        main(command(**changes))
    assert caught.value.code == 2 and "usage: oodcert certify" in capsys.readouterr().err


def test_help_says_defaults_and_imports_no_torch():
    code = "import sys; from oodcert.cli.main import main\ntry: main(['certify', '--help'])\nexcept SystemExit: pass\n"
    code += "sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    width = signature(oodcert.certify).parameters["tolerance"].default
    for word in (
        "(default: 10000; 16 with --detector one-pass)",
        "(default: 0.001)",
        "(default: msp)",
        f"by over {width} (",
        "example:",
        "exit codes",
    ):
        assert word in " ".join(done.stdout.split())
    assert "(default: None)" not in done.stdout


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    (declared,) = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert capsys.readouterr().out == f"oodcert {declared}\n"
