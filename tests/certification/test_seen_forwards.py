"""Interval bounds see whatever decides what a network computes, or refuse it: no score lies above its bound."""

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrizations, parametrize

from interval_boxes import attacks, random_images, randomised
from interval_networks import FunctionModule
from oodcert.certification.interval_propagation import NoRule, interval_bounds, logit_difference_bounds
from oodcert.certification.linf_bounds import linf_score_upper_bound
from oodcert.errors import InputError
from oodcert.models.detector import Detector
from oodcert.models.wrappers import JointNetwork
from refusals import assert_refused

IMAGES, EPSILON = random_images(6, 1, 4, 4), 0.05
LOWER, UPPER = (IMAGES - EPSILON).clamp(min=0), (IMAGES + EPSILON).clamp(max=1)


def network():
    return randomised(nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4)), seed=1)


def assert_no_score_above_its_bound(one):
    """Holds for the logits, where they have bounds, and for every score; returns the msp's bounds."""
    try:
        low, high = interval_bounds(one, LOWER, UPPER)
    except NoRule:
        low, high = -torch.inf, torch.inf
    bounds = {score: linf_score_upper_bound(one, score, IMAGES, EPSILON) for score in ("msp", "energy", "atom")}
    with torch.no_grad():
        points = [LOWER + (UPPER - LOWER) * torch.rand_like(LOWER) for _ in range(30)] + [IMAGES, LOWER, UPPER]
        for point in points:
            logits = one(point.clone())
            slack = 1e-9 * (1 + logits.abs())
            assert (low - slack <= logits).all() and (logits <= high + slack).all()
            for score, bound in bounds.items():
                scores = Detector(one, score).score_logits(logits)
                assert (scores <= bound + 1e-9 * (1 + scores.abs())).all()
    return bounds["msp"]


def with_forward(change):
    """A network in which one of the modules has a forward of its own."""
    whole = nn.Sequential(network())
    inner = whole[0]
    module = {"head": inner[-1], "first": inner[1], "nested": inner, "whole": whole}[change]
    before = module.forward
    module.forward = lambda features: 9 * before(features)
    return whole


@pytest.mark.parametrize("place", ["head", "first", "nested", "whole"])
def test_a_forward_of_its_own_is_seen(place):
    plain, changed = network(), with_forward(place)
    assert not torch.equal(changed(IMAGES), plain(IMAGES))
    assert_no_score_above_its_bound(changed)
    if place in ("head", "nested", "whole"):
        assert_refused(lambda: logit_difference_bounds(changed, LOWER, UPPER), "ends in nn.Linear")


@pytest.mark.parametrize(
    "hook",
    [
        lambda module, inputs, output: 30 * output,
        lambda module, inputs, output: output.mul_(30),
        lambda module, inputs, output: (output[:, :2].mul_(-30), output)[1],
        lambda module, inputs, output: (inputs[0].mul_(-9), output)[1],
        lambda module, inputs, output: None,
    ],
)
@pytest.mark.parametrize("place", [1, 3])
def test_hooks_are_seen(hook, place):
    one = network()
    one[place].register_forward_hook(hook)
    assert_no_score_above_its_bound(one)


@pytest.mark.parametrize("place", [1, 3])
def test_hooks_before_a_module_are_seen(place):
    one = network()
    one[place].register_forward_pre_hook(lambda module, inputs: (30 * inputs[0],))
    assert_no_score_above_its_bound(one)


def before_all(module, inputs):
    return (30 * inputs[0],) if type(module) is nn.Linear else None


def after_all(module, inputs, output):
    return 30 * output if type(module) is nn.Linear else None


def test_hooks_on_all_modules_are_seen():
    for register, hook in (
        (torch_module.register_module_forward_hook, after_all),
        (torch_module.register_module_forward_pre_hook, before_all),
    ):
        handle = register(hook)
        try:
            assert_no_score_above_its_bound(network())
        finally:
            handle.remove()


def test_a_changed_class_is_seen(monkeypatch):
    plain = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, features: 30 * plain(self, features))
    assert_no_score_above_its_bound(network())
    monkeypatch.undo()
    plain_sequence = nn.Sequential.forward
    monkeypatch.setattr(nn.Sequential, "forward", lambda self, features: 7 * plain_sequence(self, features))
    assert_no_score_above_its_bound(network())


class Fourfold(nn.Module):
    def forward(self, weight):
        return 4 * weight


@pytest.mark.parametrize(
    "parametrized",
    [
        lambda layer: parametrize.register_parametrization(layer, "weight", Fourfold(), unsafe=True),
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
    ],
)
@pytest.mark.parametrize("place", [1, 3])
def test_parametrized_weights_are_seen(parametrized, place):
    one = network()
    parametrized(one[place])
    assert_no_score_above_its_bound(one.eval())


def test_a_joint_network_with_a_forward_or_hook_of_its_own_has_no_bound():
    joint = JointNetwork(network(), randomised(nn.Sequential(nn.Flatten(), nn.Linear(16, 1))), 4).eval()
    joint.discriminator[1].bias.data -= 2
    assert (assert_no_score_above_its_bound(joint) < 1).all()
    joint.discriminator.register_forward_hook(lambda module, inputs, output: output + 1)
    assert (assert_no_score_above_its_bound(joint) < 1).all()
    handle = joint.register_forward_hook(lambda module, inputs, output: 9 * output)
    assert (assert_no_score_above_its_bound(joint) == 1).all()
    handle.remove()
    joint.forward = lambda images: torch.tensor([[9.0, 0, 0, 0]]).double().expand(len(images), -1)
    assert (assert_no_score_above_its_bound(joint) == 1).all()


REFUSED = {
    "bits as integers": lambda x: x.view(torch.int64),
    "bits by keyword": lambda x: x.view(dtype=torch.int64),
    "small integers": lambda x: x.sum((2, 3), dtype=torch.uint8),
    "half precision": lambda x: x.mean((2, 3), dtype=torch.float16),
    "mean over the images": lambda x: x - x.mean(0),
    "mean by keyword": lambda x: x - torch.mean(x, dim=(0, 2)).reshape(1, -1, 1, 1),
    "mean of all": lambda x: x - x.mean(),
    "sum from the end": lambda x: x - x.sum(-4),
    "random numbers": lambda x: x + torch.rand(x.shape),
    "random weights": lambda x: x * torch.empty(1).uniform_(),
    "complex numbers": lambda x: x * 1j,
    "complex weights": lambda x: x * torch.tensor(1j),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_order_is_refused(name):
    with pytest.raises(NoRule):
        interval_bounds(FunctionModule(REFUSED[name]), LOWER, UPPER)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_of_half_precision_is_refused(dtype):
    with pytest.raises(NoRule, match=r"network\.double\(\)"):
        interval_bounds(network().to(dtype), LOWER, UPPER)
    assert (linf_score_upper_bound(network().to(dtype), "msp", IMAGES, EPSILON) == 1).all()


def test_boxes_of_any_kind_are_those_they_mean():
    expected = interval_bounds(network(), LOWER, UPPER)
    for box in ((LOWER.numpy(), UPPER.numpy()), (LOWER.tolist(), UPPER.tolist()), (list(LOWER), list(UPPER))):
        assert all(map(torch.equal, interval_bounds(network(), *box), expected))
    single = interval_bounds(network().float(), LOWER, UPPER.float())
    assert single[0].dtype == torch.float32 and torch.allclose(single[1].double(), expected[1], atol=1e-5)
    inner = network()
    wrapped = FunctionModule(lambda images: {"logits": inner(images)})
    assert all(map(torch.equal, interval_bounds(wrapped, LOWER, UPPER), expected))
    with torch.inference_mode():
        assert all(map(torch.equal, interval_bounds(network(), LOWER, UPPER), expected))


@pytest.mark.parametrize(
    ("lower", "upper", "words"),
    [
        (UPPER, LOWER, "swapped"),
        (LOWER[:1], UPPER, "one shape"),
        (LOWER[:0], UPPER[:0], "at least one image"),
        (LOWER.long(), UPPER.long(), "float tensors"),
        (None, UPPER, "NoneType"),
        (0.0, 1.0, "fails on"),
        (np.ma.masked_less(LOWER.numpy(), 0.5), UPPER, "masked"),
    ],
)
def test_what_is_no_box_is_refused(lower, upper, words):
    assert_refused(lambda: interval_bounds(network(), lower, upper), words)


def test_a_function_has_no_bounds():
    with pytest.raises(InputError, match="forward of one"):
        interval_bounds(lambda images: images, LOWER, UPPER)


PADDINGS = st.sampled_from(["zeros", "reflect", "replicate", "circular"])
CONVOLUTIONS = st.fixed_dictionaries(
    {
        "kernel_size": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "stride": st.tuples(st.integers(1, 2), st.integers(1, 3)),
        "dilation": st.tuples(st.integers(1, 2), st.integers(1, 2)),
        "padding": st.tuples(st.integers(0, 2), st.integers(0, 2)),
        "padding_mode": PADDINGS,
        "groups": st.sampled_from([1, 2]),
        "bias": st.booleans(),
    }
)
POOLS = st.sampled_from(
    [
        lambda: nn.MaxPool2d((2, 1), stride=(1, 2), padding=(1, 0), ceil_mode=True),
        lambda: nn.MaxPool2d(2, stride=1, dilation=(1, 2)),
        lambda: nn.AvgPool2d((1, 2), stride=(2, 1), padding=(0, 1), count_include_pad=False, ceil_mode=True),
        lambda: nn.AvgPool2d(2, stride=1, divisor_override=3),
        lambda: FunctionModule(lambda x: functional.pad(x, (1, 0, 2, 1), value=-0.7)),
        lambda: FunctionModule(lambda x: torch.div(x, -0.3, rounding_mode="floor")),
        lambda: FunctionModule(lambda x: 1 - 2 * x),
    ]
)


@settings(deadline=None, max_examples=60)
@given(first=CONVOLUTIONS, second=CONVOLUTIONS, pool=POOLS, seed=st.integers(0, 99), epsilon=st.floats(0, 0.3))
def test_bounds_hold_for_unequal_strides_dilations_and_paddings(first, second, pool, seed, epsilon):
    layers = nn.Conv2d(2, 4, **first), nn.BatchNorm2d(4), nn.ReLU(inplace=True), pool(), nn.Conv2d(4, 2, **second)
    one = randomised(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)), seed)
    images = random_images(2, 2, 9, 8, seed=seed)
    lower, upper = images - epsilon, images + epsilon
    try:
        one(images)
    except RuntimeError:
        reject()  # a kernel or a padding larger than what is left of the image
    low, high = interval_bounds(one, lower, upper)
    differences = logit_difference_bounds(one, lower, upper)
    slack = 1e-9 * (1 + torch.maximum(low.abs(), high.abs()))
    for point in attacks(one, lower, upper, seed):
        logits = one(point)
        assert (low - slack <= logits).all() and (logits <= high + slack).all()
        assert (logits[:, :, None] - logits[:, None, :] <= differences + slack.amax(1)[:, None, None]).all()
