import pytest
import torch
from torch import nn

from oodcert.attacks.autoattack import autoattack
from oodcert.attacks.ood import expected_score, linf_ensemble, smoothed_l2_attack
from oodcert.attacks.pgd import decontrast, monotone_pgd, project
from oodcert.detector import Detector, JointNetwork, NoisyNetwork, replayed_logits
from oodcert.networks import build_network
from oodcert.rng import batch_draws, normal_draws

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = 0.25 + 0.5 * torch.rand(6, 1, 8, 8, generator=GENERATOR)
WEIGHT = torch.randn(64, generator=GENERATOR)
BUDGET = {"iterations": 10, "restarts": 1, "draws": 1, "seed": 0}


def linear_objective(images):
    return images.flatten(1) @ WEIGHT


def detector(seed=0):
    torch.manual_seed(seed)
    network = build_network({"name": "cnn", "width": 4}, (1, 8, 8), 3)
    for tensor in network.parameters():
        tensor.data.mul_(3)
    return Detector(network)


@pytest.mark.parametrize(("norm", "gain"), [("linf", WEIGHT.abs().sum()), ("l2", WEIGHT.norm())])
def test_a_linear_score_reaches_its_closed_form_maximum(norm, gain):
    images, value = monotone_pgd(linear_objective, IMAGES, IMAGES, 0.1, iterations=50, norm=norm)
    best = linear_objective(IMAGES) + 0.1 * gain
    assert (value <= best + 1e-4).all() and torch.allclose(value, best, rtol=0.01, atol=0.01 * 0.1 * gain)
    assert torch.allclose(linear_objective(images), value)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_perturbations_stay_in_the_ball_and_the_pixel_range(norm):
    start = IMAGES + torch.randn_like(IMAGES)
    points = project(start, IMAGES, 0.1, norm)
    delta = (points - IMAGES).flatten(1)
    assert (delta.norm(dim=1, p=float("inf") if norm == "linf" else 2) <= 0.1 + 1e-6).all()
    assert points.min() >= 0 and points.max() <= 1


def test_pgd_never_loses_and_more_iterations_never_weaken_it():
    objective = detector().raw_score
    values = [monotone_pgd(objective, IMAGES, IMAGES, 0.1, iterations=k)[1] for k in (0, 5, 20)]
    assert (values[0] >= objective(IMAGES) - 1e-6).all()
    assert (values[1] >= values[0]).all() and (values[2] >= values[1]).all()
    assert (values[2] > values[0] + 1e-3).any()


def test_strength_does_not_depend_on_the_batch():
    objective = detector().raw_score
    together = monotone_pgd(objective, IMAGES, IMAGES, 0.1, iterations=10)[1]
    alone = torch.cat([monotone_pgd(objective, x[None], x[None], 0.1, iterations=10)[1] for x in IMAGES])
    assert torch.allclose(together, alone, atol=1e-4)


def test_decontrast_moves_towards_the_mean():
    moved = decontrast(IMAGES, 0.1)
    assert (moved - IMAGES).abs().max() <= 0.1 + 1e-6 and moved.std() < IMAGES.std()


def test_ensemble_is_the_maximum_per_sample_and_is_reproducible():
    images, names = linf_ensemble(detector(), IMAGES, range(6), "set", 0.1, **BUDGET)
    again, _ = linf_ensemble(detector(), IMAGES[[4]], [4], "set", 0.1, **BUDGET)
    assert (detector().score(images) >= detector().score(IMAGES)).all()
    assert (images - IMAGES).abs().max() <= 0.1 + 1e-6
    assert set(names) <= {"clean", "decontrast", "uniform", "gaussian"}
    assert torch.allclose(again[0], images[4], atol=1e-5)


def test_a_randomised_detector_is_attacked_through_its_expectation():
    noisy = Detector(NoisyNetwork(detector().network, 0.1))
    images, _ = linf_ensemble(noisy, IMAGES, range(6), "set", 0.1, **{**BUDGET, "draws": 8})
    fresh = torch.from_numpy(batch_draws(normal_draws, 1, "fresh", range(6), 200, (1, 8, 8)))
    gain = expected_score(noisy, images, fresh) - expected_score(noisy, IMAGES, fresh)
    assert gain.mean() > 0.01


def test_a_joint_network_is_attacked_where_its_score_is_flat():
    network = detector().network
    distance = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    distance[1].weight.data[:] = 40 * WEIGHT.sign()
    distance[1].bias.data[:] = -30 - (distance[1].weight.data @ IMAGES.flatten(1).T).max()
    joint = Detector(JointNetwork(network, distance, 3))
    flat = joint.raw_score(IMAGES)
    assert torch.allclose(flat, torch.full_like(flat, 1 / 3))
    images, names = linf_ensemble(joint, IMAGES, range(6), "set", 0.1, **BUDGET)
    assert (joint.score(images) > 0.4).all() and "discriminator" in names


def test_l2_attack_raises_the_smoothed_score_within_its_ball():
    target = detector()
    budget = {"iterations": 10, "restarts": 1, "draws": 16, "seed": 0}
    attacked = smoothed_l2_attack(target, IMAGES, range(6), "set", 0.25, 0.5, IMAGES, **budget)
    assert ((attacked - IMAGES).flatten(1).norm(dim=1) <= 0.5 + 1e-5).all()
    fresh = 0.25 * torch.from_numpy(batch_draws(normal_draws, 1, "fresh", range(6), 500, (1, 8, 8)))
    smoothed = [torch.stack([target.raw_score(x + d) for d in fresh]).mean(0) for x in (IMAGES, attacked)]
    assert (smoothed[1] - smoothed[0]).mean() > 0.01


def test_autoattack_adapter_equals_the_package_called_directly():
    from pyautoattack import AutoAttack

    network = detector().network
    labels = network(IMAGES).argmax(1)
    budget = {"version": "standard", "iterations": 100, "queries": 5000, "eot": 1, "seed": 0}
    (found,), broken = autoattack(network, IMAGES, labels, 0.05, **budget, batch_size=6)
    direct = AutoAttack(network, eps=0.05, norm="Linf", version="standard", seed=0)
    direct.fab.n_target_classes = direct.apgd_targeted.n_target_classes = 2
    torch.manual_seed(0)
    expected, expected_verdict = direct.run_standard_evaluation(IMAGES, labels, batch_size=6)
    assert torch.equal(found, expected) and torch.equal(broken, expected_verdict != labels)
    assert broken.any()
    assert (found - IMAGES).abs().max() <= 0.05 + 1e-6


def test_autoattack_respects_the_classifiers_mistakes():
    class Fixed(nn.Module):
        def forward(self, images):
            return torch.eye(3)[[0]].expand(len(images), -1) + 0 * images.flatten(1)[:, :3]

    labels = torch.tensor([1] * 6)
    budget = {"version": "standard", "iterations": 2, "queries": 2, "eot": 1, "seed": 0}
    (found,), broken = autoattack(Fixed(), IMAGES, labels, 0.05, **budget, batch_size=6)
    assert broken.all() and torch.equal(found, IMAGES)


def test_autoattack_of_a_randomised_network_gives_points_to_judge():
    network = NoisyNetwork(detector().network, 0.1)
    labels = network.network(IMAGES).argmax(1)
    budget = {"version": "rand", "iterations": 20, "queries": 0, "eot": 8, "seed": 0}
    candidates, broken = autoattack(network, IMAGES, labels, 0.1, **budget, batch_size=4)
    assert len(candidates) == 2 and not broken.any()
    fresh = torch.from_numpy(batch_draws(normal_draws, 1, "fresh", range(6), 200, (1, 8, 8)))
    before, *after = (
        replayed_logits(network, x, fresh).softmax(2).mean(0)[range(6), labels] for x in (IMAGES, *candidates)
    )
    for points, confidence in zip(candidates, after, strict=True):
        assert (points - IMAGES).abs().max() <= 0.1 + 1e-6 and (before - confidence).mean() > 0.01
