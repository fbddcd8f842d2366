import itertools

import pytest
import torch
from torch import nn

from oodcert.certification.interval import confidence_bound, interval_bounds
from oodcert.detector import JointNetwork, NoisyNetwork
from oodcert.errors import InputError
from oodcert.networks import build_network
from oodcert.networks.ibp_cnn import NegativeLinear


def randomised(network, seed=0):
    """Random weights and batch norm statistics, so that no layer is near the identity."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(values.abs() + 0.5 if name.endswith("running_var") else 0.3 * values)
    return network.eval().double()


@pytest.mark.parametrize("name", ["cnn", "ibp_cnn_s"])
@pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.1])
def test_bounds_enclose_sampled_outputs(name, epsilon):
    network = randomised(build_network({"name": name, "width": 4}, (1, 8, 8), 3))
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(4, 1, 8, 8, generator=generator, dtype=torch.float64)
    lower, upper = interval_bounds(network, images - epsilon, images + epsilon)
    for _ in range(200):
        signs = torch.randint(0, 2, images.shape, generator=generator) * 2 - 1
        outputs = network(images + epsilon * signs)
        assert (outputs >= lower - 1e-9).all() and (outputs <= upper + 1e-9).all()
    if epsilon == 0:
        assert torch.allclose(lower, upper) and torch.allclose(lower, network(images))


def test_bounds_of_a_linear_network_are_exact_at_the_corners():
    network = randomised(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), NegativeLinear(2, 1)))
    image = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)
    first = nn.Sequential(*network[:2])
    lower, upper = interval_bounds(first, image - 0.1, image + 0.1)
    corners = torch.tensor(list(itertools.product([0.4, 0.6], repeat=4)), dtype=torch.float64).reshape(-1, 1, 2, 2)
    outputs = first(corners)
    assert torch.allclose(outputs.amin(0), lower[0]) and torch.allclose(outputs.amax(0), upper[0])


def test_float32_and_float64_agree():
    network = randomised(build_network({"name": "ibp_cnn_s", "width": 4}, (1, 8, 8), 1))
    images = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    double = interval_bounds(network, images - 0.05, images + 0.05)[1]
    single = interval_bounds(network.float(), (images - 0.05).float(), (images + 0.05).float())[1]
    assert torch.allclose(double, single.double(), rtol=1e-4, atol=1e-4)


def test_joint_confidence_bound_holds_for_the_worst_classifier():
    discriminator = randomised(build_network({"name": "ibp_cnn_s", "width": 4}, (1, 8, 8), 1))

    class Certain(nn.Module):
        def forward(self, images):
            return torch.tensor([[50.0, 0.0, 0.0]], dtype=torch.float64).expand(len(images), -1)

    network = JointNetwork(Certain(), discriminator, 3)
    images = torch.rand(8, 1, 8, 8, dtype=torch.float64)
    bound = confidence_bound(network, images, 0.05)
    for _ in range(100):
        attacked = (images + 0.05 * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
        assert (network(attacked).exp().amax(1) <= bound + 1e-9).all()
    at_zero = confidence_bound(network, images, 0.0)
    assert torch.allclose(at_zero, network(images).exp().amax(1))


def test_sequential_confidence_bound_holds():
    network = randomised(build_network({"name": "cnn", "width": 4}, (1, 8, 8), 3))
    images = torch.rand(8, 1, 8, 8, dtype=torch.float64)
    assert torch.allclose(confidence_bound(network, images, 0.0), network(images).softmax(1).amax(1))
    bound = confidence_bound(network, images, 0.01)
    for _ in range(100):
        attacked = images + 0.01 * (2 * torch.rand_like(images) - 1)
        assert (network(attacked.clamp(0, 1)).softmax(1).amax(1) <= bound + 1e-9).all()


def test_what_cannot_be_bounded_is_vacuous():
    network = NoisyNetwork(build_network({"name": "cnn", "width": 4}, (1, 8, 8), 3), 0.1)
    assert confidence_bound(network, torch.rand(2, 1, 8, 8), 0.01).tolist() == [1.0, 1.0]


def test_swapped_bounds_training_mode_and_unknown_layers_are_refused():
    images = torch.rand(1, 1, 8, 8)
    network = build_network({"name": "cnn", "width": 4}, (1, 8, 8), 3)
    with pytest.raises(InputError, match="swapped"):
        interval_bounds(network, images + 1, images)
    with pytest.raises(InputError, match=r"eval\(\)"):
        interval_bounds(network.train(), images, images)

    class Residual(nn.Sequential):
        def forward(self, features):
            return features + super().forward(features)

    with pytest.raises(InputError, match="Residual"):
        interval_bounds(Residual(nn.Linear(8, 8)), images, images)
    with pytest.raises(InputError, match="Sigmoid"):
        interval_bounds(nn.Sequential(nn.Sigmoid()), images, images)
