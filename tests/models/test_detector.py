import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from oodcert.errors import InputError
from oodcert.models.detector import Detector
from oodcert.models.wrappers import DenoisedNetwork, JointNetwork, NoisyNetwork, replayed_logits

IMAGES = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def linear(outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, outputs))


class Constant(nn.Module):
    def __init__(self, *values):
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, images):
        return self.values.expand(len(images), -1)


@pytest.mark.parametrize(("score", "value"), [("msp", 0.5), ("energy", 0.6931), ("max_logit", 0.0)])
def test_scores_of_two_equal_logits(score, value):
    assert Detector(Constant(0.0, 0.0), score).score(IMAGES) == pytest.approx([value] * 5, abs=1e-4)


def test_a_callable_score_gets_the_logits():
    detector = Detector(Constant(1.0, 2.0), lambda logits: -logits[:, 0])
    assert detector.score(IMAGES).tolist() == [-1.0] * 5


def test_the_network_is_put_in_evaluation_mode():
    assert not Detector(nn.Sequential(nn.Dropout(), *linear())).network.training


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES + 0.5, r"\[0, 1\]"),
        (IMAGES * float("nan"), r"\[0, 1\]"),
        (IMAGES[0], r"\[N, C, H, W\]"),
        ((255 * IMAGES).byte(), "uint8"),
        (IMAGES[:0], "empty"),
    ],
)
def test_bad_images_are_refused(images, message):
    with pytest.raises(InputError, match=message):
        Detector(linear()).score(images)


def test_bad_logits_are_refused():
    with pytest.raises(InputError, match="NaN or infinite logits for 5 of 5"):
        Detector(Constant(float("nan"), 0.0)).score(IMAGES)
    with pytest.raises(InputError, match=r"logits \[N, K\]"):
        Detector(nn.Identity()).score(IMAGES)


def test_unknown_score_is_refused():
    with pytest.raises(InputError, match=r"'max_prob'.*msp"):
        Detector(linear(), "max_prob")


@given(id_logit=st.floats(-30, 30), logit=st.floats(-30, 30))
def test_joint_probability_is_the_papers_mixture(id_logit, logit):
    joint = JointNetwork(Constant(logit, 0.0, -1.0), Constant(id_logit), num_classes=3)
    p_in = torch.sigmoid(torch.tensor(id_logit, dtype=torch.float64))
    expected = torch.tensor([logit, 0.0, -1.0], dtype=torch.float64).softmax(0) * p_in + (1 - p_in) / 3
    probabilities = joint(IMAGES[:1]).double().exp()[0]
    assert torch.allclose(probabilities, expected, rtol=1e-4, atol=1e-6)
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)


def test_a_class_count_that_disagrees_is_refused():
    with pytest.raises(InputError, match=r"10 classes.*3 logits"):
        JointNetwork(linear(3), linear(1), num_classes=10)(IMAGES)


def test_denoised_network_adds_no_noise():
    network = DenoisedNetwork(linear(), lambda noisy, sigma: noisy * sigma, sigma=0.5)
    assert torch.equal(network(IMAGES), network.network(IMAGES * 0.5))


def test_noisy_network_replays_given_noise_and_then_draws_afresh():
    network = NoisyNetwork(linear(), 0.5)
    noise = torch.randn(2, *IMAGES.shape, generator=torch.Generator().manual_seed(1))
    logits = replayed_logits(network, IMAGES, noise)
    assert torch.allclose(logits[1], network.network(IMAGES + 0.5 * noise[1]), atol=1e-6)
    assert not torch.equal(network(IMAGES), network(IMAGES))
