"""The attacks on OOD confidence: the l-infinity ensemble and the l2 attack on smoothed scores."""

import pytest
import torch
from torch import nn

from attacked_detectors import IMAGES, WEIGHT, Double, Rounded, detector
from oodcert.attacks.objective import mean_objective
from oodcert.attacks.ood import linf_ensemble, smoothed_l2_attack
from oodcert.attacks.pgd import monotone_pgd
from oodcert.errors import InputError
from oodcert.models.detector import Detector
from oodcert.models.wrappers import JointNetwork, NoisyNetwork, replayed_logits
from oodcert.runtime.keyed_noise import keyed_batch, keyed_noise

IDS = [10, 11, 12, 13, 14, 15]
WHITE_BOX = ["apgd", "decontrast", "uniform", "gaussian"]
BUDGET = {
    "apgd": {"iterations": 20, "restarts": 1},
    "pgd": {"iterations": 10, "restarts": 1},
    "square": {"queries": 50},
    "draws": 8,
    "seed": 0,
}
SCORES = pytest.mark.parametrize("score", ["msp", "energy", "max_logit", "atom", lambda logits: logits[:, 1]])


def attacked(target, epsilon=0.1, images=IMAGES, ids=IDS, **changes):
    return linf_ensemble(target, images, ids, "set", epsilon, **{**BUDGET, **changes})


def best(target, candidates, names=None):
    return torch.stack([target.score(candidates[name]) for name in names or candidates]).amax(0)


@SCORES
def test_every_candidate_is_in_the_ball_and_the_ensemble_raises_every_score(score):
    target = detector(score)
    candidates = attacked(target)
    assert list(candidates) == [*WHITE_BOX, "square"]
    for points in candidates.values():
        assert (points - IMAGES).abs().max() <= 0.1 + 1e-6 and points.min() >= 0 and points.max() <= 1
    assert (best(target, candidates) > target.score(IMAGES)).all()
    assert best(target, candidates, WHITE_BOX).mean() >= best(target, candidates, ["square"]).mean()


@pytest.mark.parametrize("order", [[4], [5, 3, 4, 0, 1, 2]])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_results_depend_on_neither_batch_nor_order(order, noise):
    target = detector()
    if noise:
        target = Detector(nn.Sequential(Double(), NoisyNetwork(target.network, noise)))
    together = attacked(target)
    other = attacked(target, images=IMAGES[order], ids=[IDS[i] for i in order])
    for name, points in together.items():
        assert torch.allclose(points[order], other[name], atol=1e-6)


def test_a_larger_ball_holds_a_higher_score():
    target = detector()
    values = [best(target, attacked(target, epsilon)).mean().item() for epsilon in (0.01, 0.03, 0.1, 0.3)]
    assert values == sorted(values) and values[0] > target.score(IMAGES).mean()


def test_in_the_whole_pixel_range_confidence_reaches_its_maximum():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
    linear[1].weight.data = torch.stack([0.06 * WEIGHT, -0.06 * WEIGHT])
    target = Detector(linear)
    corners = torch.stack([(sign * WEIGHT > 0).float().reshape(1, 8, 8) for sign in (1, -1)])
    assert (best(target, attacked(target, epsilon=1.0)) >= 0.99 * target.score(corners).min()).all()
    assert target.score(corners).min() > 0.88 > target.score(IMAGES).max()


def test_a_larger_budget_never_weakens_what_is_nested_in_it():
    target = detector()
    small = attacked(target)
    for change, nested in (
        ({"pgd": {"iterations": 20, "restarts": 1}}, ["decontrast", "uniform", "gaussian"]),
        ({"pgd": {"iterations": 10, "restarts": 3}}, ["decontrast", "uniform", "gaussian"]),
        ({"apgd": {"iterations": 20, "restarts": 3}}, ["apgd"]),
    ):
        large = attacked(target, **change)
        for name in nested:
            assert (target.score(large[name]) >= target.score(small[name]) - 1e-9).all()
        assert (best(target, large, nested) > best(target, small, nested) + 1e-9).any()


def test_square_finds_what_a_hidden_gradient_hides():
    target = Detector(nn.Sequential(Rounded(), detector().network), "max_logit")
    candidates = attacked(target, square={"queries": 300})
    by_gradient, by_queries = best(target, candidates, WHITE_BOX), best(target, candidates, ["square"])
    assert (candidates["gaussian"] - IMAGES).abs().max() < 1e-3
    assert (by_queries > by_gradient).all()


def test_a_randomised_detector_is_attacked_through_its_expectation():
    noisy = Detector(NoisyNetwork(detector().network[1].float(), 0.1))
    fresh = torch.from_numpy(keyed_batch(keyed_noise, 1, "fresh", range(6), 200, (1, 8, 8)))

    def expected(points):
        with torch.no_grad():
            return torch.stack([noisy.score_of(one) for one in replayed_logits(noisy.network, points, fresh)]).mean(0)

    for name, points in attacked(noisy).items():
        assert (expected(points) - expected(IMAGES)).mean() > (0.01 if name == "square" else 0.05)


def saturated(score):
    """Its score is flat in float32 on all images: msp at 1, atom at 0, at different distances from there."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    network[1].weight.data = torch.stack([0 * WEIGHT, 0 * WEIGHT, WEIGHT if score == "msp" else -WEIGHT]) / 8
    network[1].bias.data = torch.tensor([0.0, 0.0, 25.0])
    return Detector(network, score)


@pytest.mark.parametrize(("score", "flat"), [("msp", 1.0), ("atom", 0.0)])
def test_a_score_that_floating_point_flattens_is_attacked_all_the_same(score, flat):
    target = saturated(score)

    def exactly(points):
        return target.score_of(target.network.double()(points.double()))

    assert torch.equal(target.raw_score(IMAGES), torch.full((6,), flat))
    plain, _ = monotone_pgd(target.raw_score, IMAGES, IMAGES, 0.1, iterations=10)
    candidates = attacked(target)
    for name in ("gaussian", "square"):
        gain = (exactly(candidates[name]) - exactly(IMAGES)).abs()
        assert torch.equal(plain, IMAGES) and (gain > 0).all()
        assert (exactly(candidates[name]) > exactly(IMAGES)).all()


@SCORES
@pytest.mark.parametrize("draws", [1, 5])
def test_the_objective_orders_images_as_their_mean_score_does(score, draws):
    logits = 20 * torch.randn(draws, 200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = Detector(nn.Identity(), score)
    means = torch.stack([target.score_of(one) for one in logits]).mean(0)
    values = mean_objective(target, logits)
    order = values.argsort()
    assert (means[order].diff() >= -1e-12).all() and (means.diff().abs() > 1e-9).any()


@pytest.mark.parametrize("score", ["msp", "atom"])
@pytest.mark.parametrize("size", [0.0, 1e3])
def test_the_objective_and_its_gradient_stay_finite(score, size):
    for signs in ([1, -1, 0], [-1, -1, 1], [1, 1, -1], [0, 0, 0]):
        logits = (size * torch.tensor(signs)).expand(3, 2, 3).clone().requires_grad_()
        values = mean_objective(Detector(nn.Identity(), score), logits)
        (gradient,) = torch.autograd.grad(values.sum(), logits)
        assert values.isfinite().all() and gradient.isfinite().all()


def test_a_joint_network_is_attacked_where_its_score_is_flat():
    network = detector().network[1].float()
    distance = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    distance[1].weight.data[:] = 40 * WEIGHT.sign()
    distance[1].bias.data[:] = -30 - (distance[1].weight.data @ IMAGES.flatten(1).T).max()
    joint = Detector(JointNetwork(network, distance, 4))
    flat = joint.score(IMAGES)
    assert torch.allclose(flat, torch.full_like(flat, 1 / 4))
    candidates = attacked(joint)
    assert list(candidates) == [*WHITE_BOX, "discriminator", "square"]
    assert (joint.score(candidates["discriminator"]) > 0.4).any()
    assert joint.score(candidates["discriminator"]).mean() > best(joint, candidates, WHITE_BOX).mean() + 0.1


def test_nan_is_refused():
    broken = detector(lambda logits: logits[:, 0] * torch.nan)
    with pytest.raises(InputError, match="became NaN"):
        attacked(broken)


BUDGET_L2 = {"iterations": 10, "restarts": 1, "draws": 16, "seed": 0}


@pytest.mark.parametrize("restarts", [0, 1])
def test_l2_attack_raises_the_smoothed_score_within_its_ball(restarts):
    target, budget = Detector(detector().network[1].float()), {**BUDGET_L2, "restarts": restarts}
    attacked_images = smoothed_l2_attack(target, IMAGES, IDS, "set", 0.25, 1.0, IMAGES, **budget)
    assert ((attacked_images - IMAGES).flatten(1).norm(dim=1) <= 1 + 1e-5).all()
    fresh = 0.25 * torch.from_numpy(keyed_batch(keyed_noise, 1, "fresh", range(6), 500, (1, 8, 8)))
    smoothed = [torch.stack([target.raw_score(x + d) for d in fresh]).mean(0) for x in (IMAGES, attacked_images)]
    assert (smoothed[1] - smoothed[0]).mean() > 0.01


@pytest.mark.parametrize("order", [[4], [5, 3, 4, 0, 1, 2]])
def test_the_l2_attack_depends_on_neither_batch_nor_order(order):
    target = detector()
    together = smoothed_l2_attack(target, IMAGES, IDS, "set", 0.25, 0.5, IMAGES, **BUDGET_L2)
    images, ids = IMAGES[order], [IDS[i] for i in order]
    other = smoothed_l2_attack(target, images, ids, "set", 0.25, 0.5, images, **BUDGET_L2)
    assert torch.allclose(together[order], other, atol=1e-6)


@pytest.mark.parametrize("score", ["msp", "atom"])
def test_few_steps_find_the_highest_median_of_saturated_scores(score):
    """For two logits ±w·x the worst case in the ball is known: the image moved along w."""
    weight = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    linear = nn.Linear(64, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.cat([weight, -weight]))
        linear.bias.copy_(torch.tensor([30.0, -30.0]))
    target = Detector(nn.Sequential(nn.Flatten(), linear), score)
    images = 0.4 + 0.2 * torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    budget = {"iterations": 3, "restarts": 0, "draws": 16, "seed": 0}
    moved = smoothed_l2_attack(target, images, IDS, "set", 0.25, 0.5, images, **budget) - images
    assert torch.allclose(moved.flatten(1) @ weight[0], 0.5 * weight.norm().expand(6), rtol=1e-3)
