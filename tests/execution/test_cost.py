"""What `oodcert cost` predicts is what runs count: on the reference run, and on tiny networks by component."""

import copy
import json
import re
import subprocess
import sys
import time
from collections import Counter
from math import prod

import pandas as pd
import pytest
import torch
import yaml
from snakemake.utils import update_config
from torch import nn

from conftest import ROOT, read_config, shrink
from oodcert.certification.interval_propagation import Interval
from oodcert.cli.main import main
from oodcert.config.availability import available
from oodcert.config.components import known_components
from oodcert.config.load import check_config, read_configs
from oodcert.config.method_specs import JOINT_EVALUATIONS, computed_with
from oodcert.config.models import Config
from oodcert.data.sets import id_sets, outlier_sets
from oodcert.data.sizes import image_count
from oodcert.errors import InputError
from oodcert.evaluations.cost import AT_MOST, EXACT
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.execution import cost
from oodcert.execution.cost import UNKNOWN_SIZE, evidence, hours, passes
from oodcert.execution.footprint import PROGRAM, components, disk, memory, weight_bytes
from oodcert.execution.throughput import best_batches
from oodcert.models.components import build_component, save_component
from oodcert.training import train_component
from untrained_runs import evaluations

OF_METHODS = [name for name, spec in EVALUATIONS.items() if spec.methods]
CONFIGS = {path.stem: [path] for path in sorted((ROOT / "config").glob("*.yaml"))}
CONFIGS["paper-cifar100"] = [*CONFIGS["paper"], *CONFIGS["paper-cifar100"]]  # which changes the other
EVIDENCE = ROOT / "results" / "reference" / "digits" / "evidence"
RECORDS = sorted(path for rule in OF_METHODS for path in EVIDENCE.glob(f"{rule}/*.json"))


def jobs(config):
    """The jobs of a config, a dict or a Config."""
    return cost.jobs(config if isinstance(config, Config) else check_config(config))


@pytest.fixture(scope="module")
def digits():
    return {(job.rule, job.job): job for job in jobs(read_config())}


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_predictions_are_what_the_reference_run_recorded(path, digits):
    record, job = json.loads(path.read_text()), digits[path.parent.name, path.stem]
    predicted, recorded = next(iter(job.passes.values()))[0], record["network_calls"]
    assert job.rows == record["rows"]
    if job.certainty == AT_MOST:
        assert (
            path.parent.name == "attack_id" and recorded <= predicted <= 1.07 * recorded
        )  # images that fail early save passes
    else:
        assert predicted == recorded


@pytest.mark.parametrize("rule", [*EVALUATIONS, "train"])
def test_the_bytes_of_evidence_are_not_far_from_the_reference_runs(rule, digits):
    files = (EVIDENCE / ("training" if rule == "train" else rule)).glob("*.parquet")
    predicted = evidence([job for job in digits.values() if job.rule == rule])["bytes"].sum()
    assert 0.9 < predicted / sum(path.stat().st_size for path in files) < 2


def test_the_rows_of_learning_curves_are_those_of_the_reference_run(digits):
    for path in EVIDENCE.glob("training/*.json"):
        recorded, predicted = json.loads(path.read_text())["rows"], digits["train", path.stem].rows
        assert recorded == predicted or (path.stem == "vos" and recorded < predicted)


class Passed:
    """Counts images forward and backward through parts and copies of them, by their first convolution; interval bounds
    count twice."""

    def __init__(self, monkeypatch):
        self.forward, self.backward, plain = Counter(), Counter(), nn.Conv2d.forward

        def forward(layer, images):
            output = plain(layer, images)
            if hasattr(layer, "watched"):
                ends = (output.lower, output.upper) if isinstance(output, Interval) else (output,)
                for end in ends:
                    self.count(layer.watched, end)
            return output

        monkeypatch.setattr(nn.Conv2d, "forward", forward)

    def watch(self, name, module):
        next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d)).watched = name

    def count(self, name, output):
        self.forward[name] += len(output)
        if output.requires_grad:
            output.register_hook(lambda gradient: self.backward.update({name: len(gradient)}))

    def through(self):
        return {name: (self.forward[name], self.backward[name]) for name in self.forward}


@pytest.mark.parametrize("component", sorted(known_components()))
def test_training_passes_as_many_images_as_predicted(component, monkeypatch):
    config, passed = shrink(read_config()), Passed(monkeypatch)
    config["training"]["atom"]["pool"] = 20
    config["training"]["acet"]["attack_iterations"] = 3
    config = check_config(config)
    sets = id_sets(config.data, None) | outlier_sets(config.data, None)
    id_set, outliers = sets["id_train"].first(100), sets["outliers"].first(50)
    monkeypatch.setattr("oodcert.execution.cost.set_sizes", lambda _: {"id_train": 100, "outliers": 50, "id_test": 1})

    def build(name, *settings):
        module = build_component(name, *settings)
        passed.watch(name, module)
        return module

    monkeypatch.setattr("oodcert.training.build_component", build)
    shape, classes, networks = config.data.image_shape, config.data.num_classes, config.networks.as_json()
    needed = {name: build(name, networks, shape, classes) for name in known_components()[component].needs}
    options = {"networks": networks, "num_classes": classes, "recipe": config.training[component], "seed": 0}
    train_component(component, needed, id_set, outliers, **options)
    predicted = {job.job: job for job in jobs(config) if job.rule == "train"}[component].passes
    assert passed.through() == predicted and passed.forward[component] >= 200


TRIAL = 11  # images on which a network is tried before it is certified on a set; they are in no forecast
CASES = [
    *(("distro", rule, "fixed") for rule in OF_METHODS if rule != "guarantee_linf"),
    *((method, rule, "fixed") for method in ("atom", "prood") for rule in ("attack_linf", "sanity", "attack_id")),
    *((method, "authors_code", "fixed") for method in ("atom", "vos", "good", "prood", "diffusion")),
    *(("distro", rule, "adaptive") for rule in ("certify_l2", "certify_id")),
]


@pytest.mark.parametrize(("method", "rule", "sampling"), CASES)
def test_evaluations_pass_as_many_images_through_every_component_as_predicted(method, rule, sampling, monkeypatch):
    config = shrink(read_config())
    config["data"].update(ood=["held_out_digits", "photo_crops"], accuracy_images=12)
    for key in ("certify_l2", "certify_id"):
        config["evaluation"][key].update(sampling=sampling, n=200)
    config, passed = check_config(config), Passed(monkeypatch)
    methods = computed_with(rule, method, config.methods)
    several = evaluations(rule, methods, config=config)
    for one in several:
        for name, module in one.components.items():
            passed.watch(name, module)
    rows = EVALUATIONS[rule].load()(*several)
    counted = passed.through()
    shares = [job for job in jobs(config) if job.rule == rule and job.job in methods]
    for job, one in zip(shares, several, strict=True):
        assert job.rows == (rows["method"] == job.job).sum() and next(iter(job.passes.values()))[0] >= one.calls
    sets = {"certify_l2": 3, "certify_id": 1}.get(rule, 0)
    trials = sets and TRIAL * sets * len(getattr(config.evaluation, rule).sigmas)
    predicted = [(name, counts) for job in shares for name, counts in job.passes.items()]
    assert counted.keys() == dict(predicted).keys() and len(counted) == len(predicted)
    for name, counts in predicted:
        if shares[0].certainty == EXACT:
            users = sum(name in config.methods[one].components for one in methods)
            assert counted[name] == (counts[0] + users * trials, *counts[1:])
        else:
            assert all(done <= most for done, most in zip(counted[name], counts, strict=True))


def test_every_job_of_the_digits_run_is_there(digits):
    files = {(path.parent.name.replace("training", "train"), path.stem) for path in EVIDENCE.glob("*/*.json")}
    assert digits.keys() == files | {("denoised_examples", "examples")}


@pytest.mark.parametrize("name", CONFIGS)
def test_profiles_of_the_repository_can_be_costed(name, capsys):
    assert main(["cost", "--config", *map(str, CONFIGS[name])]) == 0
    shown = capsys.readouterr().out
    assert f"Profile {name if name != 'config' else 'digits'}:" in shown and "--throughput" in shown
    config = available(read_configs(CONFIGS[name]))
    table = passes(jobs(config))
    assert (table[["images", "forward"]] > 0).all(axis=None) and (table["backward"] >= 0).all()
    assert f"{table.loc[table['component'] == 'denoiser', 'forward'].sum():,}" in shown
    assert all(size > 0 for size in disk(config, jobs(config)).values())


def forward(config, *rules):
    table = passes(jobs(config))
    return table.loc[table["rule"].isin(rules), "forward"].sum()


def test_twice_the_draws_are_twice_the_passes(config):
    before = forward(config, "certify_l2")
    config["evaluation"]["certify_l2"]["n"] *= 2
    assert forward(config, "certify_l2") == 2 * before


def test_twice_the_images_are_twice_the_passes_and_rows(config):
    data, rules = config["data"], [rule for rule in OF_METHODS if rule not in ("sanity", "authors_code")]
    data.update(test_images=200, accuracy_images=200)
    small = evidence(jobs(config)).set_index(["rule", "job"])["rows"]
    before = {rule: forward(config, rule) for rule in rules}
    data.update(test_images=400, accuracy_images=400)
    large = evidence(jobs(config)).set_index(["rule", "job"])["rows"]
    for rule in rules:
        assert forward(config, rule) == pytest.approx(2 * before[rule], rel=0.02), rule
        assert (large[rule] == 2 * small[rule]).all()


def test_the_papers_ninety_million_denoiser_passes_a_sigma(config):
    """Nine sets of 1000 images and 10 000 draws are 90 million; 100 more draws each, as its labels take, nearly 91."""
    settings = config["evaluation"]
    settings["batch_size"] = 500
    settings["certify_l2"].update(n=10_000)
    settings["certify_id"].update(n0=100, n=10_000)
    sizes = {"test_images": 1000, "accuracy_images": 1000, "ood": tuple(f"set{index}" for index in range(8))}
    one_sigma = {key: {"sigmas": (0.12,)} for key in ("certify_l2", "certify_id")}
    paper = check_config(config).changed(data=sizes, evaluation=one_sigma)
    table = passes(cost.jobs(paper)).set_index(["rule", "job", "component"])["forward"]
    assert table["certify_l2", "diffusion", "denoiser"] == 90_000_000
    assert table["certify_id", "diffusion", "denoiser"] == 10_100_000
    assert 9 * table["certify_id", "diffusion", "denoiser"] == pytest.approx(91e6, rel=0.002)


def test_the_denoiser_of_methods_that_are_certified_together_is_counted_once(config):
    together = passes(jobs(config)).set_index(["rule", "job", "component"])["forward"].sort_index()
    found = [passes(jobs(config | {"methods": {one: config["methods"][one]}})) for one in ("diffusion", "distro")]
    for rule in JOINT_EVALUATIONS:
        alone = [one[one["rule"] == rule].set_index("component")["forward"] for one in found]
        assert alone[0]["denoiser"] == alone[1]["denoiser"] == together[rule, "diffusion", "denoiser"]
        assert together[rule, "distro"].to_dict() == alone[1].drop("denoiser").to_dict()
    assert together["attack_l2", "distro", "denoiser"] > 0


def test_hours_are_passes_over_rates(config):
    table = passes(jobs(config))
    rates = {"classifier": 100.0, "good": 50.0, "discriminator": 25.0, "denoiser": 10.0}
    found = table.assign(hours=hours(table, rates)).set_index(["rule", "job", "component"])
    for key, rate in (("plain", 100), ("good", 50), ("denoiser", 10), ("discriminator", 25)):
        row = found.loc["train", key, key]
        assert row["hours"] == pytest.approx((row["forward"] + 2 * row["backward"]) / rate / 3600)
    for wrong, words in (({"classifier": 1.0}, "discriminator, denoiser"), ({**rates, "unet": 1.0}, "unet")):
        with pytest.raises(InputError, match=words):
            hours(table, wrong)


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(shrink(read_config())))
    yield str(path)
    torch.use_deterministic_algorithms(False)


def test_the_command_divides_hours_by_devices_and_writes_the_table(tiny, tmp_path, capsys):
    rates = ["classifier=2", "discriminator=2", "denoiser=0.5"]
    csv = tmp_path / "new" / "cost.csv"
    assert main(["cost", "--config", tiny, "--throughput", *rates, "--gpus", "4", "--csv", str(csv)]) == 0
    table, shown = pd.read_csv(csv), capsys.readouterr().out
    work = table["forward"] + 2 * table["backward"]
    total = (work / table["component"].map(lambda name: 0.5 if name == "denoiser" else 2)).sum() / 3600
    assert table["hours"].sum() == pytest.approx(total)
    assert f"{total:,.2f} hours of one device; on 4 of them {total / 4:,.2f} hours at best" in shown
    assert len(table) == len(passes(jobs(read_configs([tiny])))) and "counted as two forward" in shown


def test_more_devices_do_not_help_the_longest_job(tiny, capsys):
    rates = ["classifier=1e9", "discriminator=1e9", "denoiser=1"]
    assert main(["cost", "--config", tiny, "--throughput", *rates, "--gpus", "1000"]) == 0
    table = passes(jobs(read_configs([tiny]))).query("component == 'denoiser'").set_index(["rule", "job"])
    longest = (table["forward"] + 2 * table["backward"]).max() / 3600
    assert f"on 1000 of them {longest:,.2f} hours at best" in capsys.readouterr().out


def test_later_files_override_earlier_ones_as_in_snakemake(tmp_path, config):
    changes = [
        {"data": {"test_images": 50}},
        {"data": {"ood": ["photo_crops"]}, "profile": "changed", "device": "cuda"},
    ]
    paths, expected = [ROOT / "config" / "config.yaml"], copy.deepcopy(config)
    for number, change in enumerate(changes):
        paths.append(tmp_path / f"{number}.yaml")
        paths[-1].write_text(yaml.safe_dump(change))
        update_config(expected, change)
    assert read_configs(paths).as_json() == expected and expected["data"]["test_images"] == 50


def test_a_config_that_is_not_valid_is_refused_as_the_workflow_does(tmp_path, config, capsys):
    path = tmp_path / "wrong.yaml"
    path.write_text("evaluation: {certify_l2: {n: many}}")
    config["evaluation"]["certify_l2"]["n"] = "many"
    with pytest.raises(InputError) as refused:
        check_config(config)
    assert main(["cost", "--config", str(ROOT / "config" / "config.yaml"), str(path)]) == 1
    assert capsys.readouterr().err == f"oodcert: {refused.value}\n"


@pytest.mark.parametrize("text", [None, "- a\n- b", "{", "\x00"])
def test_files_that_are_no_config_are_refused(text, tmp_path, capsys):
    path = tmp_path / "odd.yaml"
    if text is not None:
        path.write_text(text)
    assert main(["cost", "--config", str(path)]) == 1
    error = capsys.readouterr().err
    assert str(path) in error and error.count("\n") == 1


@pytest.mark.parametrize("word", ["denoiser", "denoiser=fast", "denoiser=-1", "denoiser=0", "unet=3"])
def test_rates_that_mean_nothing_are_refused(word, tiny, capsys):
    assert main(["cost", "--config", tiny, "--throughput", word]) == 1
    assert word.split("=")[0] in capsys.readouterr().err


def test_rates_are_given_or_measured(tiny):
    with pytest.raises(SystemExit) as ended:
        main(["cost", "--config", tiny, "--measure", "--throughput", "denoiser=1"])
    assert ended.value.code == 2


def test_sets_are_counted_where_they_are(config, tmp_path):
    assert cost.set_sizes(check_config(config)) == {
        "id_train": 1043,
        "outliers": 2000,
        "id_test": 400,
        **dict.fromkeys(config["data"]["ood"], 100),
    }
    data = check_config(config).data
    sets = id_sets(data, None) | outlier_sets(data, None)
    assert [len(sets[name]) for name in ("id_train", "outliers", "id_test")] == [1043, 2000, 400]
    config["data"].update(id="mine", outliers="tiny_imagenet", own={"mine": str(tmp_path)})
    for split, n in (("train", 6), ("test", 4)):
        sets["id_train"].first(n).save(tmp_path / f"{split}.npz")
    data = check_config(config).data
    assert image_count("mine", "train", data, None) == 6 and image_count("mine", "test", data, None) == 4
    assert image_count("tiny_imagenet", "train", data, None) == 100_000 and not cost.uncounted(check_config(config))


def test_sets_of_unknown_size_are_named(config, monkeypatch, capsys):
    config["data"].update(outliers="tiny_imagenet", jpeg_quality=75)
    monkeypatch.setattr("oodcert.data.sizes.IMAGES", {})
    assert (
        cost.uncounted(check_config(config)) == ["tiny_imagenet (train)"]
        and cost.set_sizes(check_config(config))["outliers"] == UNKNOWN_SIZE
    )


def test_weights_on_disk_are_predicted(config, tmp_path):
    config = check_config(config)
    shape, classes, networks = config.data.image_shape, config.data.num_classes, config.networks.as_json()
    for name, module in components(config).items():
        save_component(build_component(name, networks, shape, classes), tmp_path / name)
        header = (tmp_path / name).stat().st_size - weight_bytes(module)
        assert 0 < header < 200 * (1 + len(module.state_dict()))


def test_imported_components_cost_no_training(tmp_path, capsys):
    changes = tmp_path / "released.yaml"
    changes.write_text("weights: released")
    paths = [str(ROOT / "config" / "cifar-lite.yaml"), str(changes)]
    config = read_configs(paths)
    assert "train" in set(passes(jobs(read_configs(paths[:1])))["rule"])
    assert "train" not in set(passes(jobs(config))["rule"])
    modules = components(config)
    assert weight_bytes(modules["denoiser"]) > 200e6 > weight_bytes(modules["plain"]) > 40e6
    assert main(["cost", "--config", *paths]) == 0
    assert "(plain)" not in capsys.readouterr().out


def own_network():
    return nn.Sequential(nn.Conv2d(1, 5, 3), nn.Flatten(), nn.Linear(5 * 6 * 6, 8))


def test_user_supplied_networks_are_weighed_and_measured(tiny, tmp_path, capsys):
    changes = tmp_path / "own.yaml"
    imports = {"mine": {"network": f"{__name__}:own_network", "weights": "mine.safetensors"}}
    methods = {"mine": {"classifier": "mine", "discriminator": False, "denoiser": False, "score": "msp"}}
    changes.write_text(yaml.safe_dump({"imports": imports, "methods": methods}))
    config = read_configs([tiny, changes])
    assert weight_bytes(components(config)["mine"]) == 4 * (5 * 9 + 5 + 5 * 6 * 6 * 8 + 8)
    assert ("train", "mine") not in {(job.rule, job.job) for job in jobs(config)}
    assert main(["cost", "--config", tiny, str(changes), "--measure"]) == 0
    shown = capsys.readouterr().out.split("measured here (1 thread(s) of a CPU")[1]
    rates, batches = shown.split("in float32. In float32")
    for name in ("classifier", "mine", "good", "discriminator", "denoiser"):
        assert f"{name} " in rates and re.search(rf"{name} (32|64|\d{{3,}}) \([\d,]+ images a second\)", batches)


class Slow(nn.Module):
    """Takes as long for up to 100 images as for one, a time per image beyond, and has no memory for 1000."""

    def forward(self, images):
        if len(images) > 1000:
            torch.empty(1 << 60)
        time.sleep(0.01 * max(1, len(images) / 100))
        return images.flatten(1)


def slow():
    return Slow()


def small():
    return Small()


class Small(Slow):
    """Takes no longer for more images: memory alone ends it."""

    def forward(self, images):
        return super().forward(images[: 1 if len(images) <= 256 else 1001])


@pytest.mark.parametrize(("name", "expected"), [("slow", 128), ("small", 256)])
def test_the_best_batch_is_found(name, expected, config):
    config["imports"] = {"mine": {"network": f"{__name__}:{name}", "weights": "mine.safetensors"}}
    config["methods"] = {"mine": {**config["methods"]["plain"], "classifier": "mine"}}
    found = best_batches(check_config(config), ["mine"], "cpu")["mine"]
    assert found[0] == expected and found[1] > 5000


def test_networks_of_few_values_or_none_are_weighed(config):
    """One value a group of a group norm; user-supplied: a component without weights, a denoiser that takes a sigma."""
    config["networks"]["denoiser"] = {"channels": [8, 8, 8], "patch": 1, "timesteps": 1000}
    assert memory(check_config(config), jobs(config))["total"].min() > 0
    for component, name in (("discriminator", "torch.nn:Identity"), ("denoiser", f"{__name__}:own_denoiser")):
        config["imports"] = {component: {"network": name, "weights": "mine.safetensors"}}
        assert memory(check_config(config), jobs(config))["total"].min() > 0
    config["imports"] = {"plain": {"network": f"{__name__}:of_colours", "weights": "mine.safetensors"}}
    with pytest.raises(InputError, match=r"Conv2d fails on images of shape \(2, 1, 8, 8\)"):
        memory(check_config(config), jobs(config))


class OwnDenoiser(nn.Module):
    def forward(self, noisy, sigma):
        return noisy - sigma


def own_denoiser():
    return OwnDenoiser()


def of_colours():
    return nn.Conv2d(3, 8, 3)


def test_memory_grows_with_batches_and_training_sets(config, monkeypatch):
    found = memory(check_config(config), jobs(config)).set_index(["rule", "job"])["total"]
    assert (found > PROGRAM).all() and len(found) == len(known_components()) + 10 * len(config["methods"])
    config["evaluation"]["batch_size"] *= 2
    larger = memory(check_config(config), jobs(config)).set_index(["rule", "job"])["total"]
    assert (larger["attack_linf"] > found["attack_linf"]).all() and (larger["train"] == found["train"]).all()
    sizes = cost.set_sizes(check_config(config))
    monkeypatch.setattr(
        "oodcert.execution.footprint.set_sizes", lambda _: {**sizes, "outliers": sizes["outliers"] + 1000}
    )
    more = memory(check_config(config), jobs(config)).set_index(["rule", "job"])["total"] - larger
    assert (more["train"] == 2 * 1000 * prod(config["data"]["image_shape"])).all() and (more["clean"] == 0).all()


def test_counting_needs_no_torch():
    code = "import sys, oodcert.execution.cost, oodcert.cli.cost; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT / "workflow")
