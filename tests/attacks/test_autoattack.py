"""AutoAttack through the adapter: what its authors' package gives when called directly, attack by attack."""

import pytest
import torch
from pyautoattack import AutoAttack
from pyautoattack.autopgd_base import APGDAttack
from torch import nn

from attacked_detectors import IMAGES, detector
from oodcert.attacks import AUTOATTACK
from oodcert.attacks.autoattack import autoattack
from oodcert.errors import InputError
from oodcert.models.wrappers import NoisyNetwork, replayed_logits
from oodcert.runtime.keyed_noise import keyed_batch, keyed_noise

STANDARD = {"version": "standard", "iterations": 100, "queries": 1000, "eot": 1, "seed": 0}
RAND = {"version": "rand", "iterations": 20, "queries": 0, "eot": 8, "seed": 0}
EPSILON = 0.03  # breaks some of the images, not all


def package(network):
    attack = AutoAttack(network, eps=EPSILON, norm="Linf", version="standard", seed=0)
    attack.square.n_queries = STANDARD["queries"]
    attack.fab.n_target_classes = attack.apgd_targeted.n_target_classes = 3
    return attack


@pytest.fixture(scope="module")
def victim():
    network = detector().network[1].float()
    return network, network(IMAGES).argmax(1)


@pytest.fixture(scope="module")
def standard(victim):
    network, labels = victim
    return autoattack(network, IMAGES, labels, EPSILON, **STANDARD, batch_size=4)


def test_every_attack_equals_the_package_called_directly(victim, standard):
    network, labels = victim
    expected = package(network).run_standard_evaluation_individual(IMAGES, labels, batch_size=4)
    assert tuple(standard) == tuple(expected) == AUTOATTACK["standard"]
    for name, (points, broken) in standard.items():
        assert torch.equal(points, expected[name][0]) and torch.equal(broken, expected[name][1] != labels)
        assert (points - IMAGES).abs().max() <= EPSILON + 1e-6
        assert torch.equal(points[~broken], IMAGES[~broken])
        assert torch.equal(network(points).argmax(1) != labels, broken)


def test_the_worst_case_equals_the_packages_own(victim, standard):
    network, labels = victim
    _, predictions = package(network).run_standard_evaluation(IMAGES, labels, batch_size=4)
    worst = torch.stack([broken for _, broken in standard.values()]).any(0)
    assert torch.equal(worst, predictions != labels)
    assert worst.any() and not worst.all()


def test_a_misclassified_image_is_broken_as_it_is(victim):
    network, labels = victim
    wrong = (labels + 1) % 4
    results = autoattack(network, IMAGES, wrong, EPSILON, **{**STANDARD, "iterations": 2, "queries": 2}, batch_size=6)
    for points, broken in results.values():
        assert broken.all() and torch.equal(points, IMAGES)


@pytest.mark.parametrize("iterations", [20, 100])
def test_a_randomised_network_equals_the_package_at_the_same_torch_seed(victim, iterations):
    network = NoisyNetwork(victim[0], 0.1)
    results = autoattack(network, IMAGES, victim[1], 0.1, **{**RAND, "iterations": iterations, "eot": 4}, batch_size=6)
    assert tuple(results) == AUTOATTACK["rand"]
    for name, (points, broken) in results.items():
        torch.manual_seed(0)
        direct = APGDAttack(network, n_iter=iterations, eps=0.1, loss=name[5:], eot_iter=4, device="cpu")
        assert torch.equal(points, direct.perturb(IMAGES, victim[1], best_loss=True)) and not broken.any()


def test_the_step_sizes_are_reviewed_within_the_given_iterations(victim):
    budget = {**STANDARD, "iterations": 20, "queries": 1}
    points, _ = autoattack(victim[0], IMAGES, victim[1], EPSILON, **budget, batch_size=6)["apgd-ce"]
    direct = APGDAttack(victim[0], n_iter=20, eps=EPSILON, loss="ce", seed=0, device="cpu")
    assert torch.equal(points, direct.perturb(IMAGES, victim[1]))


def test_points_against_a_randomised_network_lower_its_mean_confidence(victim):
    network, labels = NoisyNetwork(victim[0], 0.1), victim[1]
    results = autoattack(network, IMAGES, labels, 0.1, **RAND, batch_size=4)
    fresh = torch.from_numpy(keyed_batch(keyed_noise, 1, "fresh", range(6), 200, (1, 8, 8)))

    def confidence(points):
        return replayed_logits(network, points, fresh).softmax(2).mean(0)[range(6), labels]

    for points, _ in results.values():
        assert (points - IMAGES).abs().max() <= 0.1 + 1e-6
        assert (confidence(IMAGES) - confidence(points)).mean() > 0.05


@pytest.mark.parametrize(("version", "classes"), [("standard", 3), ("rand", 2)])
def test_too_few_classes_are_refused(version, classes):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
    budget = {**RAND, "version": version}
    with pytest.raises(InputError, match=f"needs {classes + 1} classes .* the network has {classes}"):
        autoattack(network, IMAGES, torch.zeros(6, dtype=int), EPSILON, **budget, batch_size=6)
