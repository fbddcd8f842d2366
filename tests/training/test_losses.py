"""The losses and trainings of LogitNorm, VOS, ACET, ATOM and GOOD."""

import math
from importlib import import_module

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import nn

from conftest import RECIPE
from oodcert.certification.interval_propagation import logit_difference_bounds
from oodcert.config.models import recipe_model
from oodcert.errors import InputError
from oodcert.models.networks import build_network
from oodcert.training.acet import acet_loss, attack, log_confidence
from oodcert.training.atom import atom_loss, id_score, mine_outliers
from oodcert.training.good import good_loss
from oodcert.training.logitnorm import logitnorm_loss
from oodcert.training.loop import Data
from oodcert.training.vos import VirtualOutlierLoss, energy_loss, virtual_outliers

CNN = {"name": "cnn", "width": 4}


def toy():
    """Two easy classes, a bright left or right half; outliers are noise."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 60, (64, 1, 8, 8), dtype=np.uint8), np.arange(64) % 2
    images[labels == 0, :, :, :4] += 180
    images[labels == 1, :, :, 4:] += 180
    outliers = rng.integers(0, 256, (64, 1, 8, 8), dtype=np.uint8)
    return Data(*(torch.from_numpy(array) for array in (images, labels, outliers)))


DATA = toy()
IMAGES, OUTLIERS = DATA.images / 255, DATA.outliers / 255


def train(component, outputs=2, network=CNN, **settings):
    torch.manual_seed(0)
    network = build_network(network, (1, 8, 8), outputs)
    recipe = recipe_model(component)(**{**RECIPE, **settings})
    curve = import_module(f"oodcert.training.{component}").train(network, {}, DATA, recipe, seed=0)
    return network.eval(), curve


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def accuracy(network):
    return (network(IMAGES)[:, :2].argmax(1) == DATA.labels).float().mean()


def test_logitnorm_loss_by_hand():
    logits, labels = torch.tensor([[3.0, 4.0]]), torch.tensor([0])
    # the norm is 5, so with temperature 0.5 the logits become 1.2 and 1.6
    assert logitnorm_loss(logits, labels, 0.5).item() == pytest.approx(math.log1p(math.exp(0.4)), rel=1e-5)


def test_logitnorm_loss_ignores_the_length_of_the_logits():
    logits, labels = torch.randn(5, 3, generator=generator()), torch.tensor([0, 1, 2, 0, 1])
    lengths = torch.tensor([0.01, 1.0, 7.0, 100.0, 1e4])[:, None]
    assert torch.allclose(logitnorm_loss(lengths * logits, labels, 0.04), logitnorm_loss(logits, labels, 0.04))
    zero = torch.zeros(1, 3, requires_grad=True)
    loss = logitnorm_loss(zero, torch.tensor([0]), 0.04)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(3)) and zero.grad.isfinite().all()


def test_logitnorm_learns_the_classes():
    network, _ = train("logitnorm", temperature=0.2)
    assert accuracy(network) > 0.9


def test_energy_loss_by_hand():
    loss = energy_loss(torch.tensor([1.0]), torch.tensor([-2.0, 0.0]))
    expected = math.log1p(math.exp(-1)) + (math.log1p(math.exp(-2)) + math.log(2)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_logit_of_id_by_hand():
    loss = VirtualOutlierLoss(build_network(CNN, (1, 8, 8), 2), queue=3, start=0.0, candidates=1, energy_weight=1.0)
    with torch.no_grad():
        loss.log_weights.copy_(torch.tensor([0.0, math.log(2)]))
        loss.log_scale.fill_(math.log(2))
        loss.shift.fill_(-1.0)
    # the weighted sum is 1 · 1 + 2 · 3
    assert loss.id_logit(torch.tensor([[0.0, math.log(3)]])).item() == pytest.approx(2 * math.log(7) - 1, rel=1e-5)


def test_virtual_outliers_are_the_least_likely_of_many_draws():
    correlated = torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [0.0, 3.0, 1.0]])
    features = torch.randn(200, 3, generator=generator()) @ correlated.T + torch.tensor([5.0, -1.0, 0.0])
    mean, covariance = features.mean(0), features.T.cov(correction=0) + 1e-4 * torch.eye(3)
    gaussian = torch.distributions.MultivariateNormal(mean, covariance)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        drawn = gaussian.sample((3000, 50))
    least = drawn[torch.arange(3000), gaussian.log_prob(drawn).argmin(1)]
    many = features.expand(3000, 200, 3)  # as many classes, all alike
    synthesised = virtual_outliers(many, 50, generator(2))
    for direction in torch.cat([torch.eye(3), torch.ones(1, 3)]):
        assert ks_2samp(synthesised @ direction, least @ direction).pvalue > 0.01
    assert ks_2samp(gaussian.log_prob(synthesised), gaussian.log_prob(least)).pvalue > 0.01
    fewer = virtual_outliers(many, 25, generator(2))
    assert ks_2samp(gaussian.log_prob(fewer), gaussian.log_prob(least)).pvalue < 1e-6


def test_virtual_outliers_surround_their_own_class():
    features = torch.randn(2, 100, 4, generator=generator()) + torch.tensor([[[0.0]], [[100.0]]])
    outliers = virtual_outliers(features, 10_000, generator())
    distances = (outliers - features.mean(1)).norm(dim=1)
    assert ((distances > 3) & (distances < 10)).all()
    constant = torch.ones(2, 5, 4)
    nearby = virtual_outliers(constant, 10_000, generator())
    assert nearby.isfinite().all() and (nearby - 1).abs().max() < 0.1


def test_the_queue_keeps_the_latest_features_of_each_class():
    loss = VirtualOutlierLoss(build_network(CNN, (1, 8, 8), 2), queue=3, start=0.0, candidates=1, energy_weight=1.0)
    labels = torch.randint(2, (40,), generator=generator())
    features = torch.arange(40.0)[:, None].expand(40, loss.queue.shape[2])
    seen = 0
    for size in (12, 1, 1, 1, 2, 3, 20):  # the first batch and the last one overfill both queues
        loss.enqueue(features[seen : seen + size], labels[seen : seen + size])
        seen += size
        for k in range(2):
            latest = features[:seen][labels[:seen] == k][-3:, 0]
            assert sorted(loss.queue[k, :, 0].tolist()) == latest.tolist()


def test_vos_starts_in_time_and_does_not_rise_above_where_it_began():
    """Whether its term helps is another question: it can't fall below chance on such features (see its class)."""
    network, curve = train("vos", queue=20, start=0.5, candidates=1000, energy_weight=0.1, epochs=20)
    term = curve[curve["term"] == "outliers"]
    assert term["epoch"].tolist() == list(range(11, 21)) and accuracy(network) > 0.9
    assert 0.1 * 2 * math.log(2) < term["value"].iloc[-1] < term["value"].iloc[0]


def test_the_energy_loss_reaches_the_network():
    """The term's gradient pushes the features' energies apart where the virtual outliers lie on one side."""
    head = nn.Linear(2, 2)
    nn.init.eye_(head.weight), nn.init.zeros_(head.bias)
    loss = VirtualOutlierLoss(nn.Sequential(nn.Identity(), head), queue=1, start=0.0, candidates=1, energy_weight=1.0)
    id_features, ood_features = torch.tensor([[3.0, 3.0]]), torch.tensor([[-3.0, -3.0]])
    far = energy_loss(loss.id_logit(head(id_features)), loss.id_logit(head(ood_features)))
    near = energy_loss(loss.id_logit(head(ood_features)), loss.id_logit(head(id_features)))
    assert far < 2 * math.log(2) < near
    far.backward()
    assert (head.weight.grad != 0).any() and loss.log_scale.grad < 0


def test_vos_and_attacking_methods_name_the_learning_rate_when_training_diverges():
    for component, settings in {
        "vos": {"queue": 20, "start": 0.0, "candidates": 100, "energy_weight": 0.1},
        "acet": {"epsilon": 0.05, "attack_iterations": 2, "outlier_weight": 1.0},
    }.items():
        with pytest.raises(InputError, match="lower this component's learning_rate"):
            train(component, learning_rate=1e15, **settings)


def test_vos_refuses_a_queue_that_never_fills():
    with pytest.raises(InputError, match="A class has 256 features in all epochs, but a queue of 300"):
        train("vos", queue=300, start=0.5, candidates=1000, energy_weight=0.1)


def test_acet_loss_by_hand():
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6], [0.7, 0.1, 0.2]])
    terms = acet_loss(probabilities.log(), torch.tensor([1]), weight=2.0)
    assert terms["id"].item() == pytest.approx(-math.log(0.25), rel=1e-5)
    assert terms["outliers"].item() == pytest.approx(math.log(0.6) + math.log(0.7), rel=1e-5)


def test_the_attack_raises_its_objective_within_the_ball():
    network, _ = train("plain")
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    attacked, again = (attack(network, log_confidence, OUTLIERS, 0.05, 5, generator(7)) for _ in range(2))
    assert torch.equal(attacked, again) and network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert (attacked - OUTLIERS).abs().max() <= 0.05 + 1e-6 and attacked.min() >= 0 and attacked.max() <= 1
    network.eval()
    assert (log_confidence(network(attacked)) > log_confidence(network(OUTLIERS))).float().mean() > 0.9


def test_acet_keeps_attacked_outliers_unconfident():
    worst = {}
    settings = {"acet": {"epsilon": 0.1, "attack_iterations": 5, "outlier_weight": 1.0}, "plain": {}}
    for component, changes in settings.items():
        network, _ = train(component, **changes)
        attacked = attack(network, log_confidence, OUTLIERS, 0.1, 20, generator(1))
        worst[component] = log_confidence(network(attacked)).exp().mean().item()
        assert accuracy(network) > 0.9
    assert worst["acet"] < 0.65 and worst["acet"] < worst["plain"] - 0.1


def test_atom_loss_by_hand():
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6], [0.7, 0.1, 0.2]])
    terms = atom_loss(probabilities.log(), torch.tensor([1]), weight=2.0)
    assert terms["id"].item() == pytest.approx(-math.log(0.25), rel=1e-5)
    assert terms["outliers"].item() == pytest.approx(-math.log(0.6) - math.log(0.2), rel=1e-5)


class Brightness(nn.Module):
    """p_{K+1} rises with the first pixel."""

    def forward(self, images):
        pixel = images[:, 0, 0, :1]
        return torch.cat([torch.zeros_like(pixel), pixel], 1)


def test_mining_takes_a_quarter_of_the_pool_from_the_quantile_on():
    outliers = torch.zeros(16, 1, 8, 8, dtype=torch.uint8)
    brightness = torch.randperm(16, generator=generator())
    outliers[:, 0, 0, 0] = 10 * brightness
    for quantile, expected in ((0.0, [0, 1, 2, 3]), (0.25, [4, 5, 6, 7]), (0.75, [12, 13, 14, 15])):
        mined = mine_outliers(Brightness(), outliers, 16, quantile, generator(1))
        assert brightness[mined].tolist() == expected
    assert len(mine_outliers(Brightness(), outliers, 1000, 0.0, generator(1))) == 4
    pools = [mine_outliers(Brightness(), outliers, 8, 0.0, generator(seed)).tolist() for seed in range(5)]
    assert all(len(pool) == 2 for pool in pools) and len(set(map(tuple, pools))) > 1


def test_mining_beyond_the_pool_is_refused():
    with pytest.raises(InputError, match=r"quantile to 0\.75 at most"):
        mine_outliers(Brightness(), DATA.outliers, 16, 0.8, generator())


def test_atom_finds_attacked_outliers():
    network, _ = train("atom", outputs=3, epsilon=0.1, attack_iterations=5, outlier_weight=1.0, pool=64, quantile=0.125)
    attacked = attack(network, id_score, OUTLIERS, 0.1, 20, generator(1))
    assert accuracy(network) > 0.9
    assert network(attacked).softmax(1)[:, 2].mean() > 0.8 and network(IMAGES).softmax(1)[:, 2].mean() < 0.1


def test_good_loss_by_hand():
    probabilities = torch.tensor([[0.5, 0.25, 0.25]])
    outliers = torch.tensor([[0.0, 1.0, 3.0], [2.0, 2.0, 2.5], [0.0, 4.0, 0.0]])
    logits = torch.cat([probabilities.log(), outliers])
    bounds = torch.zeros(3, 3, 3)
    bounds[0, 2, 0], bounds[1, 2, 0], bounds[2, 1, 2] = 5.0, 0.75, 6.0
    terms = good_loss(logits, torch.tensor([1]), bounds, quantile=0.7, weight=2.0)
    # 0.7 · 3 rounds down to two guaranteed losses, of the bounds 0.75 and 5; the third outlier spreads over 4 itself
    expected = 2 * (math.log(1 + 0.75**2 / 2) + math.log(1 + 5**2 / 2) + math.log(1 + 4**2 / 2)) / 3
    assert terms["id"].item() == pytest.approx(-math.log(0.25), rel=1e-5)
    assert terms["outliers"].item() == pytest.approx(expected, rel=1e-5)


def test_good_guarantees_low_confidence_on_outliers():
    settings = {"epsilon": 0.02, "quantile": 0.8, "epsilon_ramp": 0.3, "weight_ramp": 0.3, "learning_rate": 0.003}
    bounds = {}
    for weight in (0.0, 1.0):
        spec = {"name": "ibp_cnn_xl", "width": 4}
        network, _ = train("good", network=spec, epochs=30, outlier_weight=weight, **settings)
        lower, upper = (OUTLIERS - 0.02).clamp(min=0), (OUTLIERS + 0.02).clamp(max=1)
        bounds[weight] = logit_difference_bounds(network, lower, upper).amax((1, 2)).sigmoid()  # of two classes
        assert accuracy(network) > 0.9
    assert bounds[1.0].quantile(0.8) < 0.6 and bounds[0.0].mean() > 0.99
