"""The benchmarks' straightforward loop against oodcert.certify, and the scripts on an untrained tiny run."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import adaptive
import attack
import certify as certify_benchmark
import common
import oodcert
import scaling
from conftest import read_config, shrink
from oodcert.checkpoints import build_part, save_part
from oodcert.data.sets import id_sets, ood_sets, outlier_sets
from oodcert.errors import InputError
from oodcert.methods import trained_parts
from oodcert.networks import build_network
from oodcert.rng import normal_draws
from victims import IMAGES, detector

SHAPE = (1, 8, 8)


def keyed_noise(sample):
    """Standard normal draws of a shape [B, C, H, W]: those of the library, one batch after another."""
    drawn = 0

    def noise(shape):
        nonlocal drawn
        found = torch.from_numpy(normal_draws(0, "", sample, drawn, shape[0], tuple(shape[1:])))
        drawn += shape[0]
        return found

    return noise


@pytest.mark.parametrize(("n", "batch_size"), [(1000, 250), (999, 128), (20, 500)])
@pytest.mark.parametrize("score", ["msp", "energy"])
@pytest.mark.parametrize("alpha", [0.01, 0.2])
def test_the_straightforward_loop_gives_the_same_percentile_bounds(n, batch_size, score, alpha):
    torch.manual_seed(0)
    detector = oodcert.Detector(build_network({"name": "cnn", "width": 4}, SHAPE, 3), score)
    images, radii = torch.rand(3, *SHAPE), [0.0, 0.1, 0.25, 0.5, 1.0]
    table = oodcert.certify(detector, images, 0.25, radii, n=n, alpha=alpha, bounds=["percentile"])
    for image in range(len(images)):
        bounds = certify_benchmark.loop_bounds(
            detector.raw_score, images[image], 0.25, radii, n, alpha, batch_size, keyed_noise(image)
        )
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
    folder, config = tmp_path_factory.mktemp("run"), shrink(read_config())
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    for name, image_set in (id_sets(config) | outlier_sets(config) | ood_sets(config)).items():
        image_set.save(folder / "data" / "tiny" / f"{name}.npz")
    torch.manual_seed(0)
    for part in trained_parts({name: config["methods"][name] for name in common.METHODS}, config["training"]):
        module = build_part(part, config["networks"], SHAPE, config["data"]["num_classes"])
        save_part(module, folder / "results" / "tiny" / "models" / f"{part}.safetensors")
    arguments = ["--config", folder / "config.yaml", "--directory", folder, "--images", 2]
    return [str(argument) for argument in arguments]


def test_certify_runs_end_to_end(tiny, tmp_path, capsys):
    certify_benchmark.main([*tiny, "--n", "200", "--repetitions", "1", "--out", str(tmp_path / "certify.json")])
    found = json.loads((tmp_path / "certify.json").read_text())
    assert [row["step"] for row in found["total"]] == list(certify_benchmark.STEPS)
    calls = [row["denoiser_calls"] for row in found["total"]]
    assert calls[0] == 4 * 6 * 2 * 200 and calls[2] < calls[1] / 3
    assert {row["decisions"] for row in found["agreement"]} == {4 * 5 * 2 * 2}
    assert {"commit", "packages", "machine", "command", "settings", "overhead"} <= found.keys()
    assert "Overhead" in capsys.readouterr().out


def test_adaptive_runs_end_to_end(tiny, tmp_path, capsys):
    adaptive.main([*tiny, "--n", "200", "--out", str(tmp_path / "adaptive.json")])
    found = json.loads((tmp_path / "adaptive.json").read_text())
    assert [row["certificate"] for row in found["totals"]] == ["all four bounds", "labels", "percentile"]
    for row in found["calls"]:
        assert row["agree"] + row["more_conservative"] + row["less_conservative"] == row["decisions"]
    assert all(0 <= row["fixed"] <= 1 and 0 <= row["adaptive"] <= 1 for row in found["metrics"])
    assert "In total" in capsys.readouterr().out


def test_attack_runs_end_to_end(tiny, tmp_path, capsys):
    attack.main([*tiny, "--iterations", "3", "--repetitions", "2", "--out", str(tmp_path / "attack.json")])
    found = json.loads((tmp_path / "attack.json").read_text())
    assert {(row["network"], row["norm"]) for row in found["apgd"]} == {
        (network, norm) for network in ("plain", "resnet-8, 32x32") for norm in ("linf", "l2")
    }
    for row in found["apgd"]:
        assert row["ratio"] == pytest.approx(row["oodcert_ms"] / row["package_ms"])
        assert len(row["seconds"]["oodcert"]) == len(row["seconds"]["package"]) == 2
        assert row["oodcert_ms"] == pytest.approx(1000 * min(row["seconds"]["oodcert"]) / 3)
    assert {"commit", "packages", "machine", "command", "settings"} <= found.keys()
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


def test_scaling_runs_the_workflow_with_every_number_of_shards(tiny, tmp_path, capsys):
    own = ["--shards", "1", "2", "--workers", "2", "--out", str(tmp_path / "scaling.json")]
    scaling.main([*tiny[: tiny.index("--images")], *own])
    runs = json.loads((tmp_path / "scaling.json").read_text())["runs"]
    assert [(row["workers"], row["shards"], row["jobs"]) for row in runs] == [(2, 1, 1), (2, 2, 3)]
    assert all(0 < row["work_seconds"] < row["seconds"] and 0 < row["idle_seconds"] < row["seconds"] for row in runs)
    assert runs[0]["sha256"] == runs[1]["sha256"] and "Snakemake with nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("script", [certify_benchmark, adaptive, attack, scaling])
def test_a_missing_run_is_named(script, tmp_path):
    config = Path(__file__).parents[1] / "config" / "config.yaml"
    with pytest.raises(InputError, match=r"plain\.safetensors does not exist.*`make` first"):
        script.main(["--config", str(config), "--directory", str(tmp_path)])
