"""The benchmarks' straightforward loop against oodcert.certify, and the scripts on an untrained tiny run."""

import json
import os
import resource
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy.stats import binom, norm

import adaptive
import attack
import certify as certify_benchmark
import choices
import common
import guarantees
import interval
import memory
import oodcert
import run as run_benchmark
import scaling
import total
import train
from attacked_detectors import IMAGES, detector
from conftest import checked, read_config, shrink
from oodcert.config.external_weights import networks_of
from oodcert.config.method_specs import trained_components
from oodcert.data.sets import id_sets, ood_sets, outlier_sets
from oodcert.errors import InputError
from oodcert.models.components import build_component, save_component
from oodcert.models.networks import build_network
from oodcert.runtime.keyed_noise import keyed_noise

SHAPE = (1, 8, 8)


def loop_noise(sample):
    """Standard normal draws like a batch [B, C, H, W]: those of the library, one batch after another."""
    drawn = 0

    def noise(batch):
        nonlocal drawn
        shape = batch.shape
        draws = torch.from_numpy(keyed_noise(0, "", sample, drawn, shape[0], tuple(shape[1:])))
        drawn += shape[0]
        return draws

    return noise


def percentile_bounds(ascending, sigma, radii, alpha):
    """(lower [R], upper [R]) on the median, by the ranks of Chiang et al. (2020); infinite where there is none.

    With probability ≥ 1 - alpha at most m of n draws fall below the Φ(R/sigma)-quantile, m the (1 - alpha)-quantile of
    a binomial, so the draw of rank m + 1 bounds it; the lower bound is its mirror image.
    """
    n = len(ascending)
    below = [int(binom.ppf(1 - alpha, n, norm.cdf(radius / sigma))) for radius in radii]
    upper = [ascending[m] if m < n else np.inf for m in below]
    return [ascending[n - 1 - m] if m < n else -np.inf for m in below], upper


@pytest.mark.parametrize(("n", "batch_size"), [(1000, 250), (999, 128), (20, 500)])
@pytest.mark.parametrize("score", ["msp", "energy"])
@pytest.mark.parametrize("alpha", [0.01, 0.2])
def test_the_straightforward_loop_gives_the_same_percentile_bounds(n, batch_size, score, alpha):
    torch.manual_seed(0)
    detector = oodcert.Detector(build_network({"name": "cnn", "width": 4}, SHAPE, 3), score)
    images, radii = torch.rand(3, *SHAPE), [0.0, 0.1, 0.25, 0.5, 1.0]
    table = oodcert.certify(detector, images, 0.25, radii, n=n, alpha=alpha, bounds=["percentile"])
    for image in range(len(images)):
        scores = total.loop_scores(detector.raw_score, images[image], 0.25, n, batch_size, loop_noise(image))
        bounds = percentile_bounds(np.sort(scores), 0.25, radii, alpha)
        ours = table.loc[table["image"] == image, ["lower", "upper"]].to_numpy().T
        assert np.allclose(bounds, ours, atol=1e-6)
        assert n > 20 or np.isinf(ours).any()


def test_decisions_are_compared_by_their_direction():
    before, after = pd.Series([True, True, False, False, True]), pd.Series([True, False, True, True, True])
    expected = {"decisions": 5, "agree": 2, "more_conservative": 1, "less_conservative": 2}
    assert common.compared(before, after) == expected


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Arguments for a folder with the data and the models, untrained, of a tiny run."""
    folder, values = tmp_path_factory.mktemp("run"), shrink(read_config())
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    config = checked(values)
    image_sets = id_sets(config.data, None) | outlier_sets(config.data, None) | ood_sets(config.data, None)
    for name, image_set in image_sets.items():
        image_set.save(folder / "data" / "tiny" / f"{name}.npz")
    torch.manual_seed(0)
    components = trained_components(config.methods, config.training)
    for component in components:
        module = build_component(component, networks_of(components, config), SHAPE, config.data.num_classes)
        save_component(module, folder / "results" / "tiny" / "models" / f"{component}.safetensors")
    arguments = ["--config", folder / "config.yaml", "--directory", folder, "--images", 2]
    return [str(argument) for argument in arguments]


@pytest.fixture(scope="module")
def folder(tiny):
    """The arguments that name the folder and its config alone."""
    return tiny[: tiny.index("--images")]


def test_certify_runs_end_to_end(tiny, tmp_path, capsys):
    certify_benchmark.main([*tiny, "--n", "300", "--repetitions", "1", "--out", str(tmp_path / "certify.json")])
    record = json.loads((tmp_path / "certify.json").read_text())
    assert [row["batch"] for row in record["overhead"]] == 3 * list(certify_benchmark.BATCH_SIZES)
    for row in record["overhead"]:
        assert row["images"] == (150 if "32x32" in row["network"] else 600)
        (loop,) = row["seconds"][f"loop {row['batch']}"]
        assert row["loop_per_s"] == pytest.approx(row["images"] / loop)
        assert row["over_eager"] == pytest.approx(row["certify_per_s"] / row["loop_per_s"])
        assert row["of_best"] == pytest.approx(row["certify_per_s"] / row["best_per_s"])
    assert {"commit", "packages", "machine", "command", "settings"} <= record.keys()
    assert "over_eager" in capsys.readouterr().out


def test_the_bare_rate_is_the_best_of_the_batch_sizes(monkeypatch):
    bare = {"bare 128": 3.0, "bare 256": 1.0, "bare 500": 2.0}
    monkeypatch.setattr(certify_benchmark, "timings", lambda runs, _: {name: [bare.get(name, 4.0)] for name in runs})
    rows = certify_benchmark.overhead(torch.nn.Flatten(), torch.rand(2, *SHAPE), 500, 1)
    assert set(rows["best_batch"]) == {256} and set(rows["best_per_s"]) == {1024.0}
    assert set(rows["of_best"]) == {250 / 1024} and set(rows["over_eager"]) == {1.0} and set(rows["noise"]) == {1.0}


def test_the_loop_counts_every_noisy_copy():
    image = torch.zeros(1, 2, 2)
    image[0, 1, 0] = 5
    assert certify_benchmark.votes(torch.nn.Flatten(), image, 0.1, 70, 32).tolist() == [0, 0, 70, 0]


@pytest.mark.parametrize(("bounds", "few"), [(["percentile"], 2), (["percentile", "cdf"], 1)])
def test_total_runs_end_to_end(tiny, bounds, few, tmp_path, capsys):
    own = ["--n", "200", "--bounds", *bounds, "--fixed-images", str(few), "--out", str(tmp_path / "total.json")]
    total.main([*tiny, *own])
    record = json.loads((tmp_path / "total.json").read_text())
    sigmas = record["settings"]["sigmas"]
    composed, denoised = ([row for row in record["total"] if row["table"] == table] for table in total.TABLES)
    for rows, methods, behind in ((composed, 10, 2), (denoised, 8, 8)):
        assert [row["step"] for row in rows] == list(total.STEPS) and {row["methods"] for row in rows} == {methods}
        assert rows[0]["denoiser_calls"] == len(sigmas) * behind * 6 * 2 * 200
        assert rows[-1]["factor_so_far"] == pytest.approx(rows[0]["seconds"] / rows[-1]["seconds"])
        assert all(0 < row["network_seconds"] < row["seconds"] for row in rows)
        for row in rows:
            steps = [one for one in record["steps"] if (one["table"], one["step"]) == (row["table"], row["step"])]
            assert [one["sigma"] for one in steps] == sigmas
            assert row["seconds"] == pytest.approx(sum(one["seconds"] for one in steps))
    passes = [row["denoiser_calls"] for row in denoised]
    assert passes[1] / passes[2] == (8 if len(bounds) == 1 else 4)
    for row in record["agreement"]:
        kinds = len(bounds) * (10 if row["table"] == "as composed" else 8)
        unbounded = 2 * (len(bounds) - 1)  # of vos and atom
        assert row["decisions"] == (kinds - unbounded) * len(sigmas) * 5 * few * 2
    assert {row["side"] for row in record["draws"]} == {"ID", "OOD"}
    assert all(row["method"] <= row["pass"] <= 200 for row in record["draws"])
    assert "factor_so_far" in capsys.readouterr().out


def test_the_methods_behind_the_denoiser_are_each_there_once():
    methods = checked(read_config()).methods
    denoised = total.specs_of(methods, "all denoised")
    assert list(denoised) == ["plain", "oe", "logitnorm", "vos", "acet", "atom", "good", "prood"]
    assert all(spec.denoiser for spec in denoised.values())
    assert total.groups(denoised, ["percentile"]) == [(list(denoised), ["percentile"])]
    own = {tuple(names): bounds for names, bounds in total.groups(methods, ["percentile", "cdf"])}
    assert own["diffusion", "distro"] == ["percentile", "cdf"] and own[("vos",)] == ["percentile"]


def test_interval_runs_end_to_end(folder, tmp_path, capsys):
    own = ["--repetitions", "1", "--batches", "1", "4", "--width", "4", "--out", str(tmp_path / "interval.json")]
    interval.main([*folder, *own])
    rows = json.loads((tmp_path / "interval.json").read_text())["interval"]
    assert len(rows) == 4 * 2 and {row["batch"] for row in rows} == {1, 4}
    assert all(row["ratio"] == pytest.approx(row["bounds_ms"] / row["forward_ms"]) for row in rows)
    assert "limit 2" in capsys.readouterr().out


def test_train_runs_end_to_end(folder, tmp_path, capsys):
    own = ["--images", "130", "--epochs", "1", "--repetitions", "1", "--out", str(tmp_path / "train.json")]
    train.main([*folder[:2], *own])
    rows = json.loads((tmp_path / "train.json").read_text())["train"]
    assert [row["network"] for row in rows] == ["plain of tiny", "resnet-8, 32x32"]
    assert all(row["ratio"] == pytest.approx(row["oodcert_per_s"] / row["bare_per_s"]) for row in rows)
    assert "bare loop" in capsys.readouterr().out


@pytest.mark.parametrize(("augmentation", "epochs"), [("none", 4), ("flip_crop", 2)])
def test_the_bare_training_loop_ends_at_the_same_weights(augmentation, epochs):
    recipe = checked(read_config()).training["plain"].changed(augmentation=augmentation, epochs=epochs)
    network = common.untrained({"name": "cnn", "width": 4}, SHAPE, 3)
    contestants = train.contestants(network, train.random_data(150, SHAPE, 3), recipe)
    ours, bare = (contestants[who]().state_dict() for who in ("oodcert", "bare"))
    assert all(torch.equal(value, ours[key]) for key, value in bare.items())
    assert not any(torch.equal(bare[key], value) for key, value in network.state_dict().items())


def test_memory_runs_end_to_end(tmp_path, capsys):
    memory.main(["--draws", "600", "--images", "1", "--methods", "1", "2", "--out", str(tmp_path / "memory.json")])
    rows = json.loads((tmp_path / "memory.json").read_text())["memory"]
    assert [(row["n"], row["images"], row["methods"]) for row in rows] == [(600, 1, 1), (600, 1, 2)]
    assert all(0 <= row["growth_mib"] < row["peak_mib"] for row in rows)
    assert "Peak memory" in capsys.readouterr().out


def test_a_process_sees_its_peak_of_memory():
    seen = memory.peak()
    assert 100e6 < seen <= 1.01 * 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_choices_run_end_to_end(folder, tmp_path, capsys):
    choices.main([*folder, "--batch", "4", "--repetitions", "1", "--out", str(tmp_path / "choices.json")])
    record = json.loads((tmp_path / "choices.json").read_text())
    assert len(record["noise"]) == 5 and all(row["ns"] > 0 for row in record["noise"])
    assert {row["other choice"] for row in record["networks"]} == {
        *("channels_last", "contiguous", "two threads, core time", "a UNet", choices.NORMS, choices.RETURNED),
    }
    assert all(row["ratio"] == pytest.approx(row["other_us"] / row["us"]) for row in record["networks"])
    assert "nanoseconds a value" in capsys.readouterr().out


def test_adaptive_runs_end_to_end(tiny, tmp_path, capsys):
    adaptive.main([*tiny, "--n", "200", "--out", str(tmp_path / "adaptive.json")])
    record = json.loads((tmp_path / "adaptive.json").read_text())
    assert [row["certificate"] for row in record["totals"]] == ["all four bounds", "labels", "percentile"]
    for row in record["calls"]:
        assert row["agree"] + row["more_conservative"] + row["less_conservative"] == row["decisions"]
    assert all(0 <= row["fixed"] <= 1 and 0 <= row["adaptive"] <= 1 for row in record["metrics"])
    assert "In total" in capsys.readouterr().out


def test_guarantees_run_end_to_end(tiny, tmp_path, capsys):
    words = ["--n", "300", "--fewer", "100", "--draws", "1", "20", "--methods", "distro"]
    guarantees.main([*tiny, *words, "--out", str(tmp_path / "guarantees.json")])
    rows = pd.DataFrame(json.loads((tmp_path / "guarantees.json").read_text())["guarantees"])
    assert rows["auc"].between(0, 1).all() and len(rows) == 5 * rows["radius"].nunique()
    calls = rows.groupby("certificate")["calls_an_image"].first()
    assert calls["percentile, n = 100"] == 100 and 128 <= calls["percentile, n ≤ 300 adaptive"] <= 300
    queries = rows.groupby("certificate")["passes_a_query"].first()
    assert queries["one pass, 20 draws"] == 1 and queries["percentile, n = 300"] == 300
    assert "Certified AUC at sigma" in capsys.readouterr().out


def test_attack_runs_end_to_end(tiny, tmp_path, capsys):
    attack.main([*tiny, "--iterations", "3", "--repetitions", "2", "--out", str(tmp_path / "attack.json")])
    record = json.loads((tmp_path / "attack.json").read_text())
    assert {(row["network"], row["norm"]) for row in record["apgd"]} == {
        (network, norm) for network in ("plain", "resnet-8, 32x32") for norm in ("linf", "l2")
    }
    for row in record["apgd"]:
        assert row["ratio"] == pytest.approx(row["oodcert_ms"] / row["package_ms"])
        assert row["over_bare"] == pytest.approx(row["oodcert_ms"] / row["bare_ms"])
        assert len(row["seconds"]["oodcert"]) == len(row["seconds"]["package"]) == 2
        assert row["oodcert_ms"] == pytest.approx(1000 * min(row["seconds"]["oodcert"]) / 3)
    assert {"commit", "packages", "machine", "command", "settings"} <= record.keys()
    assert "One iteration of Auto-PGD" in capsys.readouterr().out


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_both_auto_pgds_of_the_benchmark_climb_alike(norm):
    network, images = detector().network[1].float(), IMAGES
    (_, ours), (_, _, theirs, _) = (run() for run in attack.contestants(network, images, norm, 100).values())
    before = -network(images).log_softmax(1).amax(1).detach()
    assert torch.allclose(ours, theirs, atol=0.01 * (theirs - before).mean().item()) and (ours > before).all()


def test_a_config_without_one_of_the_four_methods_is_refused(tmp_path):
    config = read_config()
    del config["methods"]["prood"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match="has no method prood: the benchmarks measure plain, oe, prood, distro"):
        common.load_run(tmp_path / "config.yaml", tmp_path, images=2)


def write_job(folder, name, seconds, computation, ended):
    """What a job of the profile tiny leaves behind."""
    logs = folder / "logs/tiny"
    for path, text in (
        (logs / f"{name}.log", f"epoch 1\nDone in {computation} s.\n"),
        (logs / f"benchmarks/{name}.tsv", f"s\tmax_rss\n{seconds}\t-\n"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (ended, ended))


def test_a_run_is_read_from_its_logs(tmp_path):
    log = tmp_path / ".snakemake/log/2026-01-02T030405.500000.snakemake.log"
    log.parent.mkdir(parents=True)
    log.touch()
    begun = datetime(2026, 1, 2, 3, 4, 5, 500_000).timestamp()
    os.utime(log, (begun + 20, begun + 20))
    write_job(tmp_path, "train/plain", 6.0, 4.0, begun + 8)
    write_job(tmp_path, "train/oe", 5.0, 4.5, begun + 9)
    write_job(tmp_path, "check", 4.0, 3.0, begun + 15)
    write_job(tmp_path, "clean/plain", 9.0, 9.0, begun - 5)  # of an earlier run
    span, jobs = run_benchmark.read(tmp_path, "tiny")
    assert span == pytest.approx((begun, begun + 20)) and set(jobs["job"]) == {"check", "train/oe", "train/plain"}
    seconds = run_benchmark.account(span, jobs, cores=2).set_index("what")["seconds"]
    assert seconds.to_dict() == pytest.approx(
        {
            "computation": 11.5,
            "start of jobs": 3.5,
            "Snakemake, no job running": 2 * (2 + 2 + 5),
            "a core without a job": 2 + 1 + 4,
            "overhead": 21.5,
            "all but computation": 28.5,
            "run": 40.0,
        }
    )
    assert run_benchmark.by_rule(jobs).set_index("rule").loc["train"].to_list() == [2, 11.0, 8.5]
    (tmp_path / "logs/tiny/check.log").write_text("by an earlier version")
    with pytest.raises(InputError, match="make the run by this version"):
        run_benchmark.read(tmp_path, "tiny")


def test_a_run_is_made_and_read(folder, tmp_path, capsys):
    own = ["--go", "--cores", "1", "--target", "data/tiny/id_test.npz", "--out", str(tmp_path / "run.json")]
    run_benchmark.main([*folder, *own])
    record = json.loads((tmp_path / "run.json").read_text())
    shares = {row["what"]: row["share"] for row in record["shares"]}
    assert [row["rule"] for row in record["rules"]] == ["id_sets"] and shares["run"] == 1
    assert 0 < shares["computation"] < 1
    assert shares["computation"] + shares["all but computation"] == pytest.approx(1)
    assert "Core-seconds" in capsys.readouterr().out


def test_scaling_runs_the_workflow_with_every_number_of_shards(folder, tmp_path, capsys):
    own = ["--shards", "1", "2", "--workers", "2", "--out", str(tmp_path / "scaling.json")]
    scaling.main([*folder, *own])
    runs = json.loads((tmp_path / "scaling.json").read_text())["runs"]
    assert [(row["workers"], row["shards"], row["jobs"]) for row in runs] == [(2, 1, 1), (2, 2, 3)]
    assert all(
        0 < row["computation_seconds"] < row["seconds"] and 0 < row["idle_seconds"] < row["seconds"] for row in runs
    )
    assert runs[0]["sha256"] == runs[1]["sha256"] and "Snakemake with nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("script", [certify_benchmark, total, adaptive, attack, interval, scaling])
def test_a_missing_run_is_named(script, tmp_path):
    config = Path(__file__).parents[2] / "config" / "config.yaml"
    with pytest.raises(InputError, match=r"(plain\.safetensors|id_train\.npz) does not exist.*`make` first"):
        script.main(["--config", str(config), "--directory", str(tmp_path)])


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no run of Snakemake: run `make` first"):
        run_benchmark.main(["--directory", str(tmp_path)])
