"""Bounds on scores hold under attack, are exact where they can be, and are the worst value where there is none."""

import pytest
import torch
from torch import nn

from interval_boxes import attacks, corners, random_images, randomised
from interval_networks import SMALL_ARCHITECTURES, FunctionModule, random_network
from oodcert.certification.interval_propagation import interval_bounds
from oodcert.certification.linf_bounds import linf_score_upper_bound
from oodcert.errors import InputError
from oodcert.models.scores import SCORES
from oodcert.models.wrappers import DenoisedNetwork, JointNetwork, NoisyNetwork

WORST = {"msp": 1.0, "energy": torch.inf, "max_logit": torch.inf, "atom": torch.inf}


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("name", SMALL_ARCHITECTURES)
def test_no_attack_exceeds_the_bound(name, score):
    network, images = random_network(name), random_images(4, 1, 8, 8)
    score_of = lambda points: SCORES[score](network(points))  # noqa: E731
    assert torch.allclose(linf_score_upper_bound(network, score, images, 0.0), score_of(images))
    radii = (1e-4, 0.01, 0.2)
    bounds = [linf_score_upper_bound(network, score, images, radius) for radius in radii]
    assert (torch.stack(bounds).diff(dim=0) >= -1e-9).all() and bounds[0].max() < WORST[score]
    for radius, bound in zip(radii, bounds, strict=True):
        for point in attacks(score_of, (images - radius).clamp(min=0), (images + radius).clamp(max=1)):
            assert (score_of(point) <= bound + 1e-9 * (1 + bound.abs())).all()


@pytest.mark.parametrize("score", SCORES)
def test_two_logits_of_a_linear_network_are_bounded_exactly_in_the_unit_cube(score):
    network = randomised(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    image = torch.tensor([[[0.0, 1.0], [0.5, 0.95]]], dtype=torch.float64)
    points = corners((image - 0.1).clamp(min=0), (image + 0.1).clamp(max=1))
    bound, highest = linf_score_upper_bound(network, score, image[None], 0.1), SCORES[score](network(points)).max()
    if score == "energy":  # both logits at once, which no single image need reach
        assert bound >= highest
        highest = network(points).amax(0).logsumexp(0)
    assert bound.item() == pytest.approx(highest.item())


def test_elision_tightens_the_bound():
    network, images = random_network("cnn"), random_images(8, 1, 8, 8)
    plain = FunctionModule(network)  # hides the last layer
    for score in ("msp", "atom"):
        elided, without = (linf_score_upper_bound(net, score, images, 0.005) for net in (network, plain))
        assert (elided < without).all()
    for score in ("energy", "max_logit"):
        elided, without = (linf_score_upper_bound(net, score, images, 0.005) for net in (network, plain))
        assert torch.equal(elided, without)


def test_without_a_linear_head_the_bounds_of_the_logits_bound_the_softmax():
    network, images = random_network("cnn"), random_images(8, 1, 8, 8).clamp(0.01, 0.99)
    low, high = interval_bounds(network, images - 0.005, images + 0.005)
    expected = torch.stack(
        [torch.cat([high[:, [k]], low[:, :k], low[:, k + 1 :]], 1).softmax(1)[:, 0] for k in range(3)]
    )
    assert torch.allclose(linf_score_upper_bound(FunctionModule(network), "msp", images, 0.005), expected.amax(0))


def test_the_joint_confidence_bound_holds_for_the_worst_classifier():
    class Certain(nn.Module):
        def forward(self, images):
            return torch.tensor([[50.0, 0.0, 0.0]], dtype=torch.float64).expand(len(images), -1)

    network = JointNetwork(NoisyNetwork(Certain(), 0.1), random_network("ibp_cnn_s", outputs=1), 3)
    images = random_images(8, 1, 8, 8)
    confidence = lambda points: network(points).exp().amax(1)  # noqa: E731
    bound = linf_score_upper_bound(network, "msp", images, 0.05)
    for point in attacks(confidence, (images - 0.05).clamp(min=0), (images + 0.05).clamp(max=1)):
        assert (confidence(point) <= bound + 1e-9).all()
    assert bound.max() < 1
    assert torch.allclose(linf_score_upper_bound(network, "msp", images, 0.0), confidence(images))
    highest = interval_bounds(network.discriminator, images, images)[1][:, 0].sigmoid()
    assert torch.allclose(linf_score_upper_bound(network, "msp", images, 0.0), (1 + 2 * highest) / 3)


UNBOUNDABLE = {
    "randomised": lambda: NoisyNetwork(random_network("cnn"), 0.1),
    "randomised deeper down": lambda: nn.Sequential(nn.Identity(), NoisyNetwork(random_network("cnn"), 0.1)),
    "denoised": lambda: DenoisedNetwork(random_network("cnn"), lambda noisy, sigma: noisy, 0.1),
    "without a rule": lambda: nn.Sequential(random_network("cnn"), nn.Sigmoid()),
    "constant": lambda: FunctionModule(lambda images: torch.ones(len(images), 3, dtype=images.dtype)),
    "overflowing": lambda: nn.Sequential(
        *(FunctionModule(lambda x: 1e200 * x) for _ in range(3)), *random_network("cnn")
    ),
    "joint without a rule": lambda: JointNetwork(
        random_network("cnn"), nn.Sequential(nn.Sigmoid(), random_network("cnn", 1)), 3
    ),
}


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("name", UNBOUNDABLE)
def test_what_cannot_be_bounded_takes_the_worst_value(name, score):
    assert (
        linf_score_upper_bound(UNBOUNDABLE[name](), score, random_images(2, 1, 8, 8), 0.01).tolist()
        == [WORST[score]] * 2
    )


def test_a_joint_network_bounds_its_confidence_alone():
    network = JointNetwork(random_network("cnn"), random_network("ibp_cnn_s", 1), 3)
    for score in ("energy", "max_logit", "atom"):
        assert linf_score_upper_bound(network, score, random_images(2, 1, 8, 8), 0.01).tolist() == [torch.inf] * 2


@pytest.mark.parametrize(("logit", "reported"), [(13.0, 0.99999774), (15.0, 1.0)])
def test_a_confidence_bound_that_says_nothing_is_reported_as_one(logit, reported):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double()
    for tensor, value in zip(network.parameters(), (torch.zeros(2, 4), torch.tensor([logit, 0.0])), strict=True):
        tensor.data = value.double()
    bound = linf_score_upper_bound(network, "msp", random_images(1, 1, 2, 2), 0.1)
    assert bound.item() == pytest.approx(reported, abs=1e-8)
    assert (bound.item() == 1) == (reported == 1)


def test_other_scores_and_training_mode_are_refused():
    images = random_images(1, 1, 8, 8)
    for score in ("entropy", lambda logits: logits[:, 0]):
        with pytest.raises(InputError, match=r"No bound on the score .*msp"):
            linf_score_upper_bound(random_network("cnn"), score, images, 0.01)
    with pytest.raises(InputError, match=r"eval\(\)"):
        linf_score_upper_bound(random_network("cnn").train(), "msp", images, 0.01)
