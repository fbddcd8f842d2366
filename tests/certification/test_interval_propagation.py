"""Interval bounds hold for every network, are exact where they must be, and refuse what they can't follow."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from interval_boxes import attacks, corners, random_images, randomised
from interval_networks import SMALL_ARCHITECTURES, FunctionModule, random_network
from oodcert.certification.interval_propagation import NoRule, interval_bounds, logit_difference_bounds
from oodcert.certification.linf_bounds import linf_score_upper_bound
from oodcert.errors import InputError
from oodcert.models.architectures.ibp_cnn import NegativeLinear
from oodcert.models.networks import build_network

CONSTANT = torch.tensor([1.5, -2.0], dtype=torch.float64)[:, None, None]


class Residual(nn.Sequential):
    def forward(self, features):
        return features + super().forward(features)


class Concat(nn.Sequential):
    def forward(self, features):
        return torch.cat([features, super().forward(features)], 1)


def assert_sound(network, lower, upper, tolerance=1e-9):
    low, high = interval_bounds(network, lower, upper)
    assert low.shape == network(lower).shape and (low <= high).all()
    slack = tolerance * (1 + torch.maximum(low.abs(), high.abs()))
    for point in attacks(network, lower, upper):
        output = network(point)
        assert (low - slack <= output).all() and (output <= high + slack).all()
    return low, high


@pytest.mark.parametrize("name", SMALL_ARCHITECTURES)
@pytest.mark.parametrize("epsilon", [0.0, 0.001, 0.1])
def test_bounds_enclose_the_outputs(name, epsilon):
    network, images = random_network(name), random_images(3, 1, 8, 8)
    lower, upper = assert_sound(network, images - epsilon, images + epsilon)
    assert torch.allclose(lower, upper) == (epsilon == 0)
    if epsilon == 0:
        assert torch.allclose(lower, network(images))


def test_float32_bounds_enclose_the_outputs_up_to_rounding():
    network, images = random_network("wideresnet").float(), random_images(3, 1, 8, 8, dtype=torch.float32)
    single = torch.stack(assert_sound(network, images - 0.01, images + 0.01, tolerance=1e-5))
    double = torch.stack(interval_bounds(network.double(), images.double() - 0.01, images.double() + 0.01))
    assert single.dtype == torch.float32 and torch.allclose(single.double(), double, rtol=1e-4, atol=1e-4)


def test_a_torchvision_network_behind_its_normalisation():
    import torchvision

    torch.manual_seed(0)
    normalise = torchvision.transforms.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.2))
    network = nn.Sequential(normalise, torchvision.models.resnet18(num_classes=3)).eval().double()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data *= 0.1  # a trained network's bounds grow less from layer to layer than fresh weights'
    lower, upper = assert_sound(network, *(random_images(1, 3, 32, 32) + radius for radius in (-1e-4, 1e-4)))
    assert (upper > lower).all() and (upper - lower).max() < 1


LINEAR = {
    "convolution": nn.Conv2d(2, 3, 3, stride=2, padding=1),
    "convolution with padding 'same', dilation and groups": nn.Conv2d(2, 4, 3, padding="same", dilation=2, groups=2),
    "functional convolution": FunctionModule(lambda x: functional.conv2d(x, CONSTANT[None].expand(3, 2, 1, 1))),
    "linear layer on the last dimension": nn.Linear(4, 2),
    "negative linear layer": NegativeLinear(4, 2),
    "flattened linear layer": nn.Sequential(nn.Flatten(), nn.Linear(32, 3, bias=False)),
    "batch norm": nn.BatchNorm2d(2),
    "batch norm without weights": nn.BatchNorm2d(2, affine=False),
    "batch norm of features": nn.Sequential(nn.Flatten(), nn.BatchNorm1d(32)),
    "average pooling": nn.AvgPool2d(2, stride=1, padding=1),
    "average pooling with a negative divisor": nn.AvgPool2d(2, divisor_override=-3),
    "adaptive average pooling": nn.AdaptiveAvgPool2d((1, 2)),
    "functional pooling": FunctionModule(lambda x: functional.adaptive_avg_pool2d(functional.avg_pool2d(x, 2), 1)),
    "mean over space": FunctionModule(lambda x: x.mean((2, 3))),
    "mean by function": FunctionModule(lambda x: torch.mean(x, dim=[2, 3], keepdim=True)),
    "sum over space": FunctionModule(lambda x: x.sum(3).sum(dim=2)),
    "normalisation": FunctionModule(lambda x: (x - CONSTANT) / -CONSTANT),
    "normalisation in place": FunctionModule(lambda x: x.clone().sub_(CONSTANT).div_(CONSTANT).mul_(-3).add_(1)),
    "operators in place": FunctionModule(lambda x: in_place(x)),
    "scaling from the right and the left": FunctionModule(lambda x: CONSTANT * torch.mul(CONSTANT, 2 * x * CONSTANT)),
    "torch's arithmetic": FunctionModule(lambda x: torch.sub(torch.div(torch.add(1, x), CONSTANT), other=3)),
    "constant minus features": FunctionModule(lambda x: 1 - (CONSTANT - torch.rsub(x, 2))),
    "negation": FunctionModule(lambda x: torch.neg(-x.neg())),
    "view": FunctionModule(lambda x: x.view(x.size(0), -1).reshape(x.shape[0], 4, -1).flatten(1)),
    "shape by keyword": FunctionModule(
        lambda x: torch.flatten(input=x, start_dim=1).reshape(len(x), x.numel() // len(x))
    ),
    "transposition": FunctionModule(
        lambda x: x.permute(0, 2, 3, 1).transpose(1, 3).unsqueeze(1).squeeze(1).contiguous()
    ),
    "selection": FunctionModule(lambda x: x[:, 1, torch.tensor([0, 2]), ...]),
    "padding": FunctionModule(lambda x: functional.pad(x, (1, 2, 0, 1), value=-0.5)),
    "concatenation": FunctionModule(lambda x: torch.cat([x, CONSTANT.expand(len(x), 2, 4, 4), 2 * x], dim=1)),
    "dropout": nn.Sequential(nn.Dropout(), nn.Dropout2d(), nn.Identity()),
}


def in_place(features):
    result = features + 0
    result += CONSTANT
    result *= -CONSTANT
    result -= 1
    result /= 4
    return result


@pytest.mark.parametrize("layer", LINEAR)
def test_bounds_of_a_single_linear_operation_are_its_exact_extremes(layer):
    network = randomised(LINEAR[layer])
    centre, radius = random_images(2, 2, 4, 4), 0.2 * random_images(2, 2, 4, 4, seed=1)
    lower, upper = interval_bounds(network, centre - radius, centre + radius)
    for index in range(2):
        image, box = centre[index : index + 1], radius[index : index + 1]
        weights = torch.autograd.functional.jacobian(network, image).flatten(-4)
        reach = weights.abs() @ box.flatten()
        assert torch.allclose(upper[index : index + 1], network(image) + reach)
        assert torch.allclose(lower[index : index + 1], network(image) - reach)


def test_bounds_of_a_linear_layer_are_its_values_at_the_corners():
    network = randomised(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    image, radius = random_images(1, 2, 2), 0.3 * random_images(1, 2, 2, seed=1)
    lower, upper = interval_bounds(network, (image - radius)[None], (image + radius)[None])
    outputs = network(corners(image - radius, image + radius))
    assert torch.allclose(outputs.amin(0), lower[0]) and torch.allclose(outputs.amax(0), upper[0])


def test_bounds_are_those_of_the_positive_and_negative_parts_of_the_weights():
    """The textbook's other form of interval propagation, layer by layer over explicit matrices."""
    network, images = random_network("cnn"), random_images(1, 1, 8, 8)
    lower, upper = images - 0.05, images + 0.05
    expected = interval_bounds(network, lower, upper)
    for layer in network:
        if isinstance(layer, nn.ReLU):
            lower, upper = lower.clamp(min=0), upper.clamp(min=0)
            continue
        zero = torch.zeros_like(lower)
        shift, size = layer(zero), lower.numel()
        matrix = torch.autograd.functional.jacobian(layer, zero).reshape(-1, size)
        up, down = matrix.clamp(min=0), matrix.clamp(max=0)
        low, high = lower.flatten(), upper.flatten()
        lower = shift + (up @ low + down @ high).reshape(shift.shape)
        upper = shift + (up @ high + down @ low).reshape(shift.shape)
    assert torch.allclose(lower, expected[0]) and torch.allclose(upper, expected[1])


PIECES = {
    "conv": lambda channels: nn.Conv2d(channels, 3, 3, padding=1),
    "relu": lambda _: nn.ReLU(),
    "in place": lambda channels: nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True)),
    "norm": nn.BatchNorm2d,
    "max": lambda _: nn.MaxPool2d(2, stride=1),
    "average": lambda _: nn.AvgPool2d(3, stride=1, padding=1),
    "scale": lambda _: FunctionModule(lambda x: 0.5 - 2 * x),
    "adaptive": lambda _: nn.AdaptiveMaxPool2d(2),
}
TREES = st.recursive(
    st.sampled_from(list(PIECES)), lambda parts: st.tuples(st.sampled_from(["residual", "concat"]), parts, parts)
)


def grown(tree, channels):
    """A module for a tree of pieces, and its number of output channels; branches keep the resolution."""
    if isinstance(tree, str):
        return PIECES[tree](channels), 3 if tree == "conv" else channels
    kind, *parts = tree
    layers, width = [], channels
    for part in parts:
        if part not in ("max", "adaptive"):
            layer, width = grown(part, width)
            layers.append(layer)
    if kind == "concat":
        return Concat(nn.Identity(), *layers), channels + width
    return Residual(*layers, nn.Conv2d(width, channels, 1)), channels


@settings(deadline=None, max_examples=60)
@given(trees=st.lists(TREES, min_size=1, max_size=5), seed=st.integers(0, 99), epsilon=st.floats(0, 0.3))
def test_bounds_hold_for_random_networks(trees, seed, epsilon):
    layers, channels = [nn.Conv2d(2, 2, 3, padding=1)], 2
    for tree in trees:
        layer, channels = grown(tree, channels)
        layers.append(layer)
    torch.manual_seed(0)
    network = randomised(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3)), seed)
    images = random_images(2, 2, 4, 4, seed=seed)
    low, high = assert_sound(network, images - epsilon, images + epsilon)
    differences = logit_difference_bounds(network, images - epsilon, images + epsilon)
    plain = high[:, :, None] - low[:, None, :]
    assert (differences <= plain + 1e-9 * (1 + plain.abs())).all()
    for point in attacks(network, images - epsilon, images + epsilon):
        logits = network(point)
        assert (logits[:, :, None] - logits[:, None, :] <= differences + 1e-9 * (1 + plain.abs())).all()


def test_views_changed_in_place_change_what_they_view():
    def aliased(features):
        features = features - 0.5
        features.view(len(features), -1)[:, 8:].mul_(-2)
        features[:, :1].add_(features[:, 1:])
        functional.relu(features[:, 1:], inplace=True)
        return features

    network, images = FunctionModule(aliased), random_images(2, 2, 4, 4)
    low, high = interval_bounds(network, images, images)
    assert torch.equal(low, network(images)) and torch.equal(high, network(images))
    assert_sound(network, images - 0.1, images + 0.1)


def test_the_callers_tensors_stay_as_they_are():
    lower = upper = random_images(1, 1, 2, 2)
    before = lower.clone()
    low, high = interval_bounds(FunctionModule(lambda x: x.mul_(-3)), lower, upper)
    assert torch.equal(lower, before) and torch.equal(low, -3 * before) and torch.equal(high, -3 * before)


@pytest.mark.parametrize("name", SMALL_ARCHITECTURES)
def test_a_call_costs_two_passes(name):
    class Products(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.count += function.overloadpacket.__name__ in ("convolution", "addmm", "mm")
            return function(*args, **(kwargs or {}))

    network, images = random_network(name), random_images(2, 1, 8, 8)
    with Products() as forward:
        network(images)
    with Products() as bounds:
        interval_bounds(network, images, images)
    assert bounds.count == 2 * forward.count > 0


@pytest.mark.parametrize("name", ["ibp_cnn_s", "ibp_cnn_xl", "densenet"])
def test_gradients_are_those_of_finite_differences(name):
    network, images = random_network(name), random_images(2, 1, 8, 8)
    weights = list(network.parameters())
    generator = torch.Generator().manual_seed(1)
    steps = [1e-6 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype) for weight in weights]

    def value():
        total = (interval_bounds(network, images - 0.02, images + 0.02)[1]).sigmoid().sum()
        if isinstance(network[-1], NegativeLinear):
            return total
        return total + (logit_difference_bounds(network, images - 0.02, images + 0.02) / 10).sigmoid().sum()

    gradients = torch.autograd.grad(value(), weights)
    slope = sum((gradient * step).sum() for gradient, step in zip(gradients, steps, strict=True))
    with torch.no_grad():
        for weight, step in zip(weights, steps, strict=True):
            weight += step
        above = value()
        for weight, step in zip(weights, steps, strict=True):
            weight -= 2 * step
        assert slope == pytest.approx((above - value()).item() / 2, rel=1e-3)
        assert abs(slope) > 1e-9


def test_elision_is_exact_for_a_linear_network():
    network = randomised(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
    image = random_images(1, 2, 2)
    box = (image - 0.2)[None], (image + 0.2)[None]
    bound, logits = logit_difference_bounds(network, *box)[0], network(corners(image - 0.2, image + 0.2))
    assert torch.allclose(bound, (logits[:, :, None] - logits[:, None, :]).amax(0))
    low, high = interval_bounds(network, *box)
    assert (bound < high.T - low - 0.01)[~torch.eye(3, dtype=torch.bool)].all()


@pytest.mark.parametrize("name", [name for name in SMALL_ARCHITECTURES if name != "ibp_cnn_s"])
def test_elision_is_tighter_than_the_bounds_of_the_logits(name):
    network, images = random_network(name), random_images(3, 1, 8, 8)
    bound = logit_difference_bounds(nn.Sequential(nn.Identity(), network), images - 0.01, images + 0.01)
    low, high = interval_bounds(network, images - 0.01, images + 0.01)
    apart = ~torch.eye(3, dtype=torch.bool)
    assert (bound < high[:, :, None] - low[:, None, :])[:, apart].all() and (bound[:, ~apart] == 0).all()
    for point in attacks(network, images - 0.01, images + 0.01):
        logits = network(point)
        assert (logits[:, :, None] - logits[:, None, :] <= bound + 1e-9).all()


@pytest.mark.parametrize("network", [nn.Sequential(nn.Flatten(), NegativeLinear(4, 3)), nn.Flatten()])
def test_elision_needs_a_linear_head(network):
    with pytest.raises(InputError, match=r"ends in nn\.Linear, not in (NegativeLinear|Flatten)"):
        logit_difference_bounds(network, torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))


def test_overflow_is_infinite_and_never_nan():
    network = nn.Sequential(
        *(FunctionModule(lambda x: 1e30 * x) for _ in range(3)), nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 3)
    )
    images = torch.rand(2, 1, 2, 2)
    low, high = interval_bounds(network, images - 0.1, images + 0.1)
    assert (low == -torch.inf).all() and (high == torch.inf).all()
    assert (logit_difference_bounds(network, images - 0.1, images + 0.1) == torch.inf).all()


def test_swapped_bounds_and_training_mode_are_refused():
    images, network = torch.rand(1, 1, 8, 8), build_network({"name": "cnn", "width": 4}, (1, 8, 8), 3)
    for bad in (images + 1, images * float("nan")):
        with pytest.raises(InputError, match="swapped"):
            interval_bounds(network, bad, images)
    with pytest.raises(InputError, match=r"BatchNorm2d.*eval\(\)"):
        interval_bounds(network.train(), images, images)
    assert all(buffer == 0 for name, buffer in network.named_buffers() if name.endswith("tracked"))
    with pytest.raises(InputError, match=r"Dropout .*eval\(\)"):
        interval_bounds(nn.Dropout(), images, images)


SCRIPTED = torch.jit.script(nn.ReLU())
REFUSED = {
    "sigmoid": nn.Sigmoid(),
    "softmax": nn.Sequential(nn.Flatten(), nn.Softmax(1)),
    "gelu": nn.GELU(),
    "product of features": FunctionModule(lambda x: x * x),
    "product in place": FunctionModule(lambda x: x.mul_(x + 1)),
    "weighted sum": FunctionModule(lambda x: torch.add(x, x, alpha=-2)),
    "given output": FunctionModule(lambda x: torch.sum(x, 3, out=torch.zeros(1, 1, 2))),
    "matrix product": FunctionModule(lambda x: x @ x),
    "reciprocal": FunctionModule(lambda x: 1 / x),
    "division of a constant": FunctionModule(lambda x: torch.div(torch.ones(2), x)),
    "weights from features": FunctionModule(lambda x: functional.linear(torch.ones(1, 2), x[0, 0])),
    "filters from features": FunctionModule(lambda x: functional.conv2d(x, x)),
    "statistics from features": FunctionModule(lambda x: functional.batch_norm(x, x[0, :, 0, 0], torch.ones(1))),
    "index from features": FunctionModule(lambda x: torch.ones(3)[x]),
    "written into a constant": FunctionModule(lambda x: torch.ones(1, 1, 2, 2).add_(x)),
    "decision by value": FunctionModule(lambda x: x if x.sum() > 0 else -x),
    "value taken out": FunctionModule(lambda x: x + x.sum().item()),
    "data taken out": FunctionModule(lambda x: x + x.detach().data),
    "numpy": FunctionModule(lambda x: torch.from_numpy(x.numpy())),
    "noise": FunctionModule(lambda x: x + torch.randn_like(x)),
    "scripted": FunctionModule(lambda x: SCRIPTED(x)),
    "past the functions": FunctionModule(lambda x: torch.ops.aten.relu(x)),
    "without input": FunctionModule(lambda x: torch.zeros(len(x), 3)),
    "dropout": FunctionModule(lambda x: functional.dropout(x, training=True)),
    "batch statistics": nn.BatchNorm2d(1, track_running_stats=False),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused(name):
    images = torch.rand(1, 1, 2, 2)
    with pytest.raises(NoRule, match=name if name in ("sigmoid", "softmax", "gelu") else "."):
        interval_bounds(REFUSED[name].eval(), images, images + 0.1)


def test_hooks_that_change_outputs_are_bounded_too():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    network.register_forward_hook(lambda module, inputs, output: 50 * output)
    network[1].register_forward_hook(lambda module, inputs, output: output + 1)
    images = torch.rand(4, 1, 8, 8)
    assert (linf_score_upper_bound(network, "msp", images, 0.0) >= network(images).softmax(1).amax(1) - 1e-6).all()
    with pytest.raises(InputError, match=r"ends in nn\.Linear"):
        logit_difference_bounds(network, images, images)


def test_other_ways_of_calling_have_no_rule():
    class Stacked(nn.Module):
        def forward(self, images):
            return torch.cat([images, images], axis=1).mean((2, 3))

    with pytest.raises(NoRule, match=r"this way of calling torch\.cat"):
        interval_bounds(Stacked(), torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
