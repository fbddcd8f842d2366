"""Methods behind one denoiser, certified in one job: the evidence of each is what a job of it alone writes."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from divided_runs import divided_config
from oodcert import certify_labels
from oodcert.config.load import check_config
from oodcert.config.method_specs import JOINT_EVALUATIONS, MethodSpec, computed_with, joint_methods
from oodcert.errors import InputError
from oodcert.evaluations.certify_id import certify_id
from oodcert.evaluations.certify_l2 import certify_l2
from oodcert.evaluations.one_pass import one_pass
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.execution.portions import Resumable, compute_portions
from oodcert.execution.shards import portions
from untrained_runs import CONFIG, evaluations

PAIR = ("diffusion", "distro")
FUNCTIONS = {"certify_l2": certify_l2, "certify_id": certify_id}
THIRD = MethodSpec(classifier="acet", discriminator=False, denoiser=True, score="msp")


def joint_config(name, sampling, **changes):
    """The config of one evaluation at one sigma; adaptive sampling has draws enough for several looks."""
    adaptive = sampling == "adaptive"
    settings = {"sigmas": (0.25,), "sampling": sampling, **({"n": 400} if adaptive else {})}
    return divided_config(evaluation={"batch_size": 32 if adaptive else 8, name: settings}, **changes)


def pair(name, sampling):
    """Evaluations of both methods, which share the denoiser."""
    return evaluations(name, PAIR, config=joint_config(name, sampling))


def phases_of(name, sampling, chunk):
    return portions(joint_config(name, sampling, chunk=chunk), name, "distro")


def fresh(one):
    """The same evaluation, of which nothing is computed yet."""
    return replace(one, lower_bound_caps={})


def of_method(rows, method):
    return rows[rows["method"] == method].reset_index(drop=True)


def test_the_joint_evaluations_are_those_tested_here():
    assert {*FUNCTIONS, "one_pass"} == set(JOINT_EVALUATIONS)
    assert all(EVALUATIONS[name].load() is function for name, function in FUNCTIONS.items())


def test_noisy_scores_of_one_pass_are_those_of_each_alone():
    config = divided_config(evaluation={"batch_size": 8, "one_pass": {"sigmas": (0.25,), "draws": 4}})
    joint = evaluations("one_pass", PAIR, config=config)
    rows = one_pass(*joint)
    for one in joint:
        alone = fresh(one)
        pd.testing.assert_frame_equal(of_method(rows, one.method), one_pass(alone), check_exact=True)
        assert one.calls == alone.calls > 0


@pytest.mark.parametrize("sampling", ["fixed", "adaptive"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_rows_and_calls_are_those_of_each_alone(name, sampling):
    function, joint = FUNCTIONS[name], pair(name, sampling)
    rows = function(*joint)
    assert set(rows["method"]) == {*PAIR}
    for one in joint:
        alone = fresh(one)
        pd.testing.assert_frame_equal(of_method(rows, one.method), function(alone), check_exact=True)
        if sampling == "fixed":
            assert one.calls == alone.calls
        else:  # one goes on as long as the other needs draws
            assert one.calls >= alone.calls
    if sampling == "adaptive":
        assert rows["n"].nunique() > 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_denoiser_sees_every_batch_once(name):
    joint, seen = pair(name, "fixed"), []
    denoiser = joint[0].components["denoiser"]
    assert denoiser is joint[1].components["denoiser"]
    denoiser.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    FUNCTIONS[name](*joint)
    assert sum(seen) == joint[0].calls == joint[1].calls


@pytest.mark.parametrize("sampling", ["fixed", "adaptive"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_portions_and_a_resumed_run_are_the_same(name, sampling, tmp_path, monkeypatch):
    function, batches = FUNCTIONS[name], []
    joint = {one.method: one for one in pair(name, sampling)}
    phases = phases_of(name, sampling, 1000)
    count = sum(map(len, phases.values()))
    assert count > 1

    def counted(*several, **more):
        batches.append([one.method for one in several])
        if len(batches) == 2:
            raise KeyboardInterrupt
        return function(*several, **more)

    monkeypatch.setattr(f"oodcert.evaluations.{name}.counted", counted, raising=False)
    spec = replace(EVALUATIONS[name], function=f"oodcert.evaluations.{name}:counted")

    def run(methods):
        resumables = [Resumable(fresh(joint[method]), tmp_path / method, method) for method in methods]
        return compute_portions(spec, resumables, phases)

    with pytest.raises(KeyboardInterrupt):
        run(PAIR)
    (tmp_path / "distro" / f"1-of-{count}.partial").unlink()
    results = run(PAIR)
    assert batches[2] == ["distro"]  # which alone lacks the first partial result
    assert batches[3:] == [[*PAIR]] * (count - 1)
    for method, (rows, facts) in zip(PAIR, results, strict=True):
        alone = fresh(joint[method])
        pd.testing.assert_frame_equal(rows, function(alone), check_exact=True)
        if sampling == "fixed":
            assert facts["network_calls"] == alone.calls
    [(again, facts)] = run(["distro"])  # from the partial results of the job of both
    pd.testing.assert_frame_equal(again, results[1][0], check_exact=True)
    assert len(batches) == count + 2 and facts == results[1][1]


def test_an_ood_side_by_itself_needs_the_id_rows_of_all(tmp_path):
    whole = certify_l2(*pair("certify_l2", "adaptive"))
    ood = {"ood": phases_of("certify_l2", "adaptive", 10**12)["ood"]}
    resumables = [Resumable(one, tmp_path / one.method, "key") for one in pair("certify_l2", "adaptive")]
    results = compute_portions(EVALUATIONS["certify_l2"], resumables, ood, whole[whole["set"] == "id"])
    for method, (rows, _) in zip(PAIR, results, strict=True):
        expected = of_method(whole[whole["set"] != "id"], method)
        pd.testing.assert_frame_equal(rows, expected, check_exact=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_three_methods_behind_the_denoiser_are_one_group(name):
    methods, names = {**CONFIG.methods, "third": THIRD}, [*PAIR, "third"]
    check_config(CONFIG.changed(methods=methods).as_json())
    assert joint_methods(methods) == names
    config, function = joint_config(name, "fixed", methods=methods), FUNCTIONS[name]
    joint = evaluations(name, names, config=config)
    rows = function(*joint)
    for one in joint:
        pd.testing.assert_frame_equal(of_method(rows, one.method), function(fresh(one)), check_exact=True)


def test_a_group_has_two_methods_at_least_whose_scores_admit_the_same_bounds():
    methods = CONFIG.methods
    assert joint_methods(methods) == [*PAIR]
    assert joint_methods({name: methods[name] for name in ("plain", "prood", "distro")}) == []
    odd = replace(THIRD, score="energy")
    assert joint_methods({"odd": odd, "distro": methods["distro"]}) == []
    assert joint_methods({"odd": odd, **methods}) == [*PAIR]


def test_only_the_certificates_of_the_group_are_computed_together():
    methods = CONFIG.methods
    for name in JOINT_EVALUATIONS:
        assert computed_with(name, "distro", methods) == [*PAIR]
        assert computed_with(name, "prood", methods) == ["prood"]
    assert computed_with("attack_l2", "distro", methods) == ["distro"]


def test_methods_of_one_job_are_cut_alike():
    for name in JOINT_EVALUATIONS:
        for chunk in (1, 300, 10**12):
            first, second = (portions(divided_config(chunk=chunk), name, method) for method in PAIR)
            assert first == second


class InPlace(torch.nn.Module):
    """A network that overwrites the images that it gets."""

    def forward(self, images):
        return images.mul_(0.5).flatten(1)[:, :3]


def test_networks_by_name_have_rows_of_their_own_and_may_not_overwrite_the_images():
    images, labels = torch.rand(4, 1, 8, 8), [0, 1, 2, 0]
    networks = {name: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)) for name in "ab"}
    settings = {"sigma": 0.25, "n0": 10, "n": 40}
    table = certify_labels(networks, images, labels, **settings)
    for name, network in networks.items():
        rows = table[table["network"] == name].drop(columns="network").reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, certify_labels(network, images, labels, **settings), check_exact=True)
    with pytest.raises(InputError, match="in place"):
        certify_labels({"in place": InPlace(), **networks}, images, labels, **settings)
