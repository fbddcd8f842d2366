"""Methods behind one denoiser, certified in one job: the evidence of each is what a job of it alone writes."""

import copy
from dataclasses import replace

import pandas as pd
import pytest
import torch
from oodcert.evaluations.l2 import certify_l2
from oodcert.evaluations.labels import certify_id
from oodcert.execution.partial_runs import Kept, in_pieces

from divided_runs import divided_config
from oodcert import certify_labels
from oodcert.config.load import check_config
from oodcert.config.method_specs import TOGETHER, computed_with, together
from oodcert.errors import InputError
from oodcert.execution.shards import pieces
from untrained_runs import CONFIG, evaluations

PAIR = ("diffusion", "distro")
FUNCTIONS = {function.__name__: function for function in (certify_l2, certify_id)}
THIRD = {"classifier": "acet", "discriminator": False, "denoiser": True, "score": "msp"}


def options(rule, sampling):
    """Settings of an evaluation; adaptive ones with draws enough for several stages."""
    more = {"n": 400, "batch_size": 32} if sampling == "adaptive" else {"batch_size": 8}
    return {**CONFIG["evaluation"][rule], "sigmas": [0.25], "sampling": sampling, **more}


def stages_of(rule, sampling, chunk):
    config, own = divided_config(chunk=chunk), options(rule, sampling)
    config["evaluation"]["batch_size"] = own.pop("batch_size")
    config["evaluation"][rule] = own
    return pieces(config, rule, "distro")


def of_method(rows, method):
    return rows[rows["method"] == method].reset_index(drop=True)


@pytest.mark.parametrize("sampling", ["fixed", "adaptive"])
@pytest.mark.parametrize("rule", FUNCTIONS)
def test_rows_and_calls_are_those_of_each_alone(rule, sampling):
    function, own = FUNCTIONS[rule], options(rule, sampling)
    works = evaluations(PAIR, **own)
    rows = function(*works)
    assert set(rows["method"]) == {*PAIR}
    for work in works:
        alone = replace(work, ceilings={})
        pd.testing.assert_frame_equal(of_method(rows, work.method), function(alone), check_exact=True)
        if sampling == "fixed":
            assert work.calls == alone.calls
        else:  # one goes on as long as the other needs draws
            assert work.calls >= alone.calls
    if sampling == "adaptive":
        assert rows["n"].nunique() > 1


@pytest.mark.parametrize("rule", FUNCTIONS)
def test_the_denoiser_sees_every_batch_once(rule):
    works, seen = evaluations(PAIR, **options(rule, "fixed")), []
    denoiser = works[0].parts["denoiser"]
    assert denoiser is works[1].parts["denoiser"]
    denoiser.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    FUNCTIONS[rule](*works)
    assert sum(seen) == works[0].calls == works[1].calls


@pytest.mark.parametrize("sampling", ["fixed", "adaptive"])
@pytest.mark.parametrize("rule", FUNCTIONS)
def test_pieces_and_a_resumed_run_are_the_same(rule, sampling, tmp_path):
    function, batches = FUNCTIONS[rule], []
    works = {one.method: one for one in evaluations(PAIR, **options(rule, sampling))}
    stages = stages_of(rule, sampling, 1000)
    count = sum(map(len, stages.values()))
    assert count > 1

    def counted(*parts, **more):
        batches.append([part.method for part in parts])
        if len(batches) == 2:
            raise KeyboardInterrupt
        return function(*parts, **more)

    counted.__name__ = rule

    def run(methods):
        fresh = {one: replace(works[one], ceilings={}) for one in methods}
        return in_pieces(counted, [Kept(fresh[one], tmp_path / one, one) for one in methods], stages)

    with pytest.raises(KeyboardInterrupt):
        run(PAIR)
    (tmp_path / "distro" / f"1-of-{count}.piece").unlink()
    found = run(PAIR)
    assert batches[2] == ["distro"]  # which alone lacks the first piece
    assert batches[3:] == [[*PAIR]] * (count - 1)
    for method, (rows, facts) in zip(PAIR, found, strict=True):
        alone = replace(works[method], ceilings={})
        pd.testing.assert_frame_equal(rows, function(alone), check_exact=True)
        if sampling == "fixed":
            assert facts["network_calls"] == alone.calls
    again = run(["distro"])  # from the pieces of the job of both
    pd.testing.assert_frame_equal(again[0][0], found[1][0], check_exact=True)
    assert len(batches) == count + 2 and again[0][1] == found[1][1]


def test_an_ood_side_by_itself_needs_the_id_rows_of_all(tmp_path):
    own = options("certify_l2", "adaptive")
    whole = certify_l2(*evaluations(PAIR, **own))
    ood = {"ood": stages_of("certify_l2", "adaptive", 10**12)["ood"]}
    kept = [Kept(one, tmp_path / one.method, "mark") for one in evaluations(PAIR, **own)]
    found = in_pieces(certify_l2, kept, ood, whole[whole["set"] == "id"])
    for method, (rows, _) in zip(PAIR, found, strict=True):
        expected = of_method(whole[whole["set"] != "id"], method)
        pd.testing.assert_frame_equal(rows, expected, check_exact=True)


def test_three_methods_behind_the_denoiser_are_one_group(monkeypatch):
    config = copy.deepcopy(CONFIG)
    config["methods"]["third"] = THIRD
    check_config(config)
    names = [*PAIR, "third"]
    assert together(config["methods"]) == names
    monkeypatch.setitem(CONFIG["methods"], "third", THIRD)
    for rule, function in FUNCTIONS.items():
        works = evaluations(names, **options(rule, "fixed"))
        rows = function(*works)
        for work in works:
            pd.testing.assert_frame_equal(of_method(rows, work.method), function(replace(work)), check_exact=True)


def test_a_group_has_two_methods_at_least_whose_scores_admit_the_same_bounds():
    methods = CONFIG["methods"]
    assert together(methods) == [*PAIR]
    assert together({name: methods[name] for name in ("plain", "prood", "distro")}) == []
    odd = {**THIRD, "score": "energy"}
    assert together({"odd": odd, "distro": methods["distro"]}) == []
    assert together({"odd": odd, **methods}) == [*PAIR]


def test_only_the_certificates_of_the_group_are_computed_together():
    methods = CONFIG["methods"]
    for rule in TOGETHER:
        assert computed_with(rule, "distro", methods) == [*PAIR]
        assert computed_with(rule, "prood", methods) == ["prood"]
    assert computed_with("attack_l2", "distro", methods) == ["distro"]


def test_methods_of_one_job_are_cut_alike():
    for rule in TOGETHER:
        for chunk in (1, 300, 10**12):
            first, second = (pieces(divided_config(chunk=chunk), rule, method) for method in PAIR)
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
