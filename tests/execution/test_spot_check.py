"""The spot check: silent on evidence of these weights, not on that of others, and its p-values are valid."""

import json
import shutil

import numpy as np
import pytest

from audited_runs import forge, publish, renew
from emulated_gpu import emulated_gpu
from oodcert.audit import open_run
from oodcert.audit.layout import inputs_of, settings_of
from oodcert.cli.main import main
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import write_evidence
from oodcert.execution.spot_check import holm, mean_p_value, rank_p_value, spot_check
from oodcert.models.components import save_component
from oodcert.models.inference_form import folded
from oodcert.runtime.files import sha256
from untrained_runs import evaluation, image_sets, tiny_config

ROWS = 20


def of_methods(*methods, **changes):
    """The tiny config of these methods; changes: of its settings of certify_l2."""
    config = tiny_config(evaluation={"certify_l2": {"n": 200, **changes}}, data={"accuracy_images": 12})
    return config.changed(methods={name: config.methods[name] for name in methods})


TINY = of_methods("plain", "distro")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two untrained methods, with their weights and images: clean scores and l2 certificates alone."""
    return run_of(TINY, tmp_path_factory.mktemp("spot"))


def run_of(config, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, image_set in image_sets().items():
            image_set.save(folder / "data" / "tiny" / f"{'id_test' if name == 'id' else name}.npz")
        for method in config.methods:
            for name in ("clean", "certify_l2"):
                untrained = evaluation(name, method, config=config)
                for component, network in untrained.components.items():
                    weights = folder / "results" / "tiny" / "models" / f"{component}.safetensors"
                    save_component(network, weights)
                    folded(network.eval())  # as the workflow evaluates it
                path = folder / "results" / "tiny" / "evidence" / name / f"{method}.parquet"
                provenance = Provenance(settings_of(config, name, method), sorted(inputs_of(config, name, method)))
                write_evidence(EVALUATIONS[name].load()(untrained), path, provenance)
    publish(folder / "results" / "tiny", config)
    return folder / "results" / "tiny"


@pytest.fixture
def results(finished, tmp_path):
    shutil.copytree(finished.parents[1], tmp_path, dirs_exist_ok=True)
    return tmp_path / "results" / "tiny"


def checked(results, **options):
    return spot_check(open_run(results)[0], ROWS, **options)


def test_a_run_agrees_with_its_weights(finished):
    results = [checked(finished, seed=seed) for seed in (0, 1, None)]
    assert all(result.status == "ok" and result.compared == ROWS for result in results)
    assert len({tuple(result.details) for result in results}) == 3, "another seed draws other rows"
    assert checked(finished, seed=0).details == results[0].details
    assert sum("p = " in detail for detail in results[0].details) == ROWS + 4
    assert results[2].details[0].startswith("seed = ")


def test_a_run_in_bfloat16_agrees_with_its_weights_in_bfloat16_alone(tmp_path):
    results = run_of(of_methods("plain", precision="bfloat16"), tmp_path)
    assert checked(results, seed=0).status == "ok"
    run, _ = open_run(results)
    del run.records["certify_l2", "plain"]["settings"]["precision"]  # other noise
    assert any("other bounds" in one.problem for one in spot_check(run, ROWS, seed=0).findings)


def test_other_weights_are_noticed_by_their_hash(results):
    path = results / "models" / "plain.safetensors"
    path.write_bytes(path.read_bytes() + b" ")
    result = checked(results)
    assert result.status == "FAILED" and result.compared == 0
    assert [one.file for one in result.findings] == ["results/tiny/models/plain.safetensors"]
    path.unlink()
    assert "not there" in checked(results).findings[0].problem


def test_other_weights_are_noticed_by_their_scores_though_every_hash_fits(results):
    network = evaluation("clean", "plain", config=TINY).components["plain"]
    for tensor in network.parameters():
        tensor.data.mul_(2)
    path = results / "models" / "plain.safetensors"
    save_component(network, path)
    for record in results.glob("evidence/*/plain.json"):
        inputs = json.loads(record.read_text())["inputs"]
        renew(record, inputs=inputs | {"results/tiny/models/plain.safetensors": sha256(path)})
    publish(results)
    findings = checked(results).findings
    assert {one.file for one in findings} >= {"evidence/certify_l2/plain.parquet", "evidence/clean/plain.parquet"}
    assert not [one for one in findings if "distro" in one.file]


def test_certificates_of_other_draws_are_noticed(results):
    def shift(frame):
        frame[["estimate", "lower", "upper"]] -= 0.1

    forge(results, "certify_l2/distro", shift)
    findings = checked(results).findings
    assert findings and {one.file for one in findings} <= {"evidence/certify_l2/distro.parquet", "evidence/certify_l2"}


def test_bounds_on_a_mean_without_width_are_noticed(results):
    """Which agree with every order statistic, and with fresh draws."""

    def collapse(frame):
        rows = frame["bound"].isin(["gaussian", "lipschitz"]) & (frame["radius"] == 0)
        frame.loc[rows, "lower"] = frame.loc[rows, "upper"] = frame.loc[rows, "estimate"]

    forge(results, "certify_l2/plain", collapse)
    problems = {one.problem.split(":")[0] for one in checked(results).findings}
    assert problems == {"other bounds than of the same draws"}


def test_what_keeps_it_from_running_is_a_finding(results, capsys):
    (results / "evidence" / "certify_l2" / "plain.json").unlink()
    assert main(["audit", str(results), "--spot-check", "3"]) == 1
    assert "could not be carried out" in capsys.readouterr().out


def test_another_clean_score_is_noticed(results):
    def raise_all(frame):
        frame["score"] += 1e-3

    forge(results, "clean/plain", raise_all)
    assert {one.file for one in checked(results).findings} == {"evidence/clean/plain.parquet"}


def test_the_command_reports_it(results, capsys):
    """Of a run with nothing but these two evaluations the audit fails, and says so; its spot check is among it."""
    assert main(["audit", str(results), "--spot-check", "3"]) == 1
    output = capsys.readouterr().out
    assert "spot check" in output and "p = " in output and "FAILED" in output


@pytest.mark.parametrize("law", ["uniform", "beta", "rare"])
def test_p_values_are_valid(law):
    """Under the hypothesis a p-value is below t with probability at most t; where the draws differ it is small."""
    generator, n, times = np.random.default_rng(0), 100, 4000
    draw = {
        "uniform": lambda size: generator.uniform(size=size),
        "beta": lambda size: generator.beta(20, 0.5, size=size),
        "rare": lambda size: (generator.uniform(size=size) < 0.02).astype(float),
    }[law]
    old, new = np.sort(draw((times, n)), axis=1), draw((times, n))
    ranks = np.array([rank_p_value(old[i, 69], 70, new[i]) for i in range(times)])
    means = np.array([mean_p_value(old[i].mean(), new[i]) for i in range(times)])
    for level in (0.1, 0.01):
        most = level * times + 4 * (level * times) ** 0.5
        assert (ranks <= level).sum() <= most and (means <= level).sum() <= most
    assert law == "rare" or (ranks <= 0.1).sum() > 0.02 * times, "it is not needlessly weak"
    assert mean_p_value(old[0].mean() + 0.5, new[0]) < 1e-3


def test_a_wrong_rank_has_a_small_p_value():
    draws = np.random.default_rng(1).uniform(size=400)
    ordered = np.sort(np.random.default_rng(2).uniform(size=400))
    assert rank_p_value(ordered[199], 200, draws) > 0.01 and rank_p_value(ordered[199], 280, draws) < 1e-6


def test_holm_rejects_step_by_step():
    assert holm([0.04, 0.01, 0.02, 0.9], 0.05).tolist() == [False, True, False, False]
    assert holm([0.001, 0.012, 0.02, 0.9], 0.05).tolist() == [True, True, True, False]
    assert not holm([0.05, 0.06], 0.05).any()


def of_device(results, device):
    """The run, as if its evidence were of another device."""
    for path in (results / "evidence").glob("*/*.json"):
        renew(path, device=device)
    publish(results)
    return results


def test_evidence_of_another_device_is_not_compared_but_listed(results):
    """What a GPU rounds otherwise is no finding; what is far off still is, by fresh draws."""

    def slightly_off(frame):
        frame["estimate"] += 2.8e-4

    forge(results, "certify_l2/plain", slightly_off)
    assert checked(of_device(results, "cpu"), seed=0).findings
    for device in ("cuda (NVIDIA H200)", "cuda", "cpu, cuda (NVIDIA H200)"):
        result = checked(of_device(results, device), seed=0)
        assert not result.findings and result.compared == ROWS
        assert [
            line
            for line in result.unchecked
            if f"certify_l2 of plain with the recorded noise, for it is of {device}" in line
        ]
        assert len(result.unchecked) == 4


def test_evidence_of_a_cpu_is_computed_again_on_a_cpu_and_that_of_a_gpu_on_its_model(results):
    """On a machine that has a GPU."""
    with emulated_gpu() as waits:
        assert checked(results, seed=0).status == "ok" and not waits
        here = of_device(results, "cuda (an emulated GPU)")
        result = checked(here, seed=0)
        assert result.status == "ok" and not result.unchecked and waits
        other = checked(of_device(results, "cuda (another GPU)"), seed=0)
        assert len(other.unchecked) == 4 and not other.findings
