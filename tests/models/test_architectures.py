"""The networks have the shapes of the released weights, and what the rest of the library relies on."""

from hashlib import sha256

import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from interval_boxes import random_images, randomised
from oodcert.errors import InputError
from oodcert.models.architectures.densenet import DenseLayer
from oodcert.models.architectures.wideresnet import PreactivationBlock
from oodcert.models.networks import build_network

SMALL = {
    "cnn": {"width": 4},
    "densenet": {"depth": 16, "growth": 3},
    "ibp_cnn_s": {"width": 4},
    "ibp_cnn_xl": {"width": 3},
    "resnet": {"depth": 8, "width": 4},
    "resnet18": {"width": 4},
    "wideresnet": {"depth": 16, "widen": 1},
}
CLASSIFIERS = [name for name in SMALL if name != "ibp_cnn_s"]
SHAPES = [(1, 8, 8), (3, 32, 32), (1, 28, 28)]


def small(name, shape=(3, 32, 32), outputs=5):
    torch.manual_seed(0)
    return build_network({"name": name, **SMALL[name]}, shape, outputs)


# network, options, outputs: number of tensors and parameters, digest of the tensors' shapes in order, of released
# weights for CIFAR-10 and CIFAR-100 (ProoD's classifiers and discriminator, GOOD, LogitNorm and VOS, ACET, ATOM)
RELEASED = [
    ("resnet18", {"width": 64}, 10, 122, 11_173_962, "ffa62ead8e2e972f"),
    ("resnet18", {"width": 64}, 100, 122, 11_220_132, "96331f35b077b0fb"),
    ("ibp_cnn_s", {"width": 128}, 1, 10, 2_986_241, "f9cabea2a036d864"),
    ("ibp_cnn_xl", {"width": 128}, 10, 16, 35_449_226, "1a432ed650737eb5"),
    ("wideresnet", {"depth": 40, "widen": 2}, 10, 227, 2_243_546, "104400837df825dc"),
    ("densenet", {"depth": 100, "growth": 12}, 10, 596, 769_162, "1814b1d3164c227f"),
    ("densenet", {"depth": 100, "growth": 12}, 11, 596, 769_505, "dc8224e48d0fc8ea"),
]


@pytest.mark.parametrize(("name", "options", "outputs", "tensors", "parameters", "digest"), RELEASED)
def test_the_tensors_have_the_shapes_of_the_released_weights(name, options, outputs, tensors, parameters, digest):
    with torch.device("meta"):
        network = build_network({"name": name, **options}, (3, 32, 32), outputs)
    shapes = [tuple(tensor.shape) for tensor in network.state_dict().values()]
    assert len(shapes) == tensors
    assert sum(tensor.numel() for tensor in network.parameters()) == parameters
    assert sha256(repr(shapes).encode()).hexdigest()[:16] == digest


def test_the_layers_of_the_interval_networks():
    def weights(name, outputs):
        with torch.device("meta"):
            network = build_network({"name": name, "width": 128}, (3, 32, 32), outputs)
        return [tuple(tensor.shape) for tensor in network.parameters() if tensor.ndim > 1]

    assert weights("ibp_cnn_xl", 10) == [
        *[(128, 3, 3, 3), (128, 128, 3, 3), (256, 128, 3, 3), (256, 256, 3, 3), (256, 256, 3, 3)],
        *[(512, 65536), (512, 512), (10, 512)],
    ]
    assert weights("ibp_cnn_s", 1) == [(128, 3, 3, 3), (256, 128, 3, 3), (256, 256, 3, 3), (128, 16384), (1, 128)]


def test_resnet18_is_torchvisions_but_for_the_stem():
    from torchvision.models import resnet18

    def shapes(network):
        return sorted(tuple(tensor.shape) for tensor in network.state_dict().values())

    with torch.device("meta"):
        ours, theirs = build_network({"name": "resnet18", "width": 64}, (3, 32, 32), 10), resnet18(num_classes=10)
    theirs.conv1 = nn.Conv2d(3, 64, 3, bias=False, device="meta")
    assert shapes(ours) == shapes(theirs)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SMALL)
def test_images_become_logits(name, shape):
    assert small(name, shape)(torch.rand(2, *shape)).shape == (2, 5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_end_in_a_linear_head(name, shape):
    network, images = small(name, shape).eval(), torch.rand(2, *shape)
    assert type(network) is nn.Sequential and type(network[-1]) is nn.Linear
    features = network[:-1](images)
    assert features.ndim == 2 and torch.equal(network[-1](features), network(images))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("resnet18", [(4, 32)] * 5 + [(8, 16)] * 2 + [(16, 8)] * 2 + [(32, 4)] * 2),
        ("wideresnet", [(16, 32)] * 3 + [(32, 16)] * 2 + [(64, 8)] * 2),
        ("ibp_cnn_xl", [(3, 32)] * 4 + [(6, 16)] * 6),
    ],
)
def test_channels_and_resolution_of_the_stages(name, sizes):
    network, seen = small(name), []
    for module in network:
        module.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape[1:])))
    network(torch.rand(1, 3, 32, 32))
    assert seen[: len(sizes)] == [(channels, side, side) for channels, side in sizes]


def test_dense_blocks_halve_channels_and_resolution_between_them():
    network, seen = small("densenet"), []
    for module in network:
        if isinstance(module, DenseLayer | nn.AvgPool2d):
            module.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape[1:3])))
    network(torch.rand(1, 3, 32, 32))
    assert seen == [(9, 32), (12, 32), (6, 16), (9, 16), (12, 16), (6, 8), (9, 8), (12, 8)]


def test_a_dense_layer_appends_to_its_input():
    layer, features = randomised(DenseLayer(6, 3)), random_images(2, 6, 5, 5)
    output = layer(features)
    norm, _, bottleneck, second_norm, _, convolution = layer.new
    assert torch.equal(output[:, :6], features)
    assert torch.equal(output[:, 6:], convolution(relu(second_norm(bottleneck(relu(norm(features)))))))


@pytest.mark.parametrize(("out_channels", "stride"), [(4, 1), (6, 2)])
def test_a_preactivation_block_activates_what_a_changing_shortcut_sees_and_nothing_else(out_channels, stride):
    block, features = randomised(PreactivationBlock(4, out_channels, stride)), random_images(2, 4, 6, 6) - 0.5
    first, norm, _, second = block.residual
    activated = relu(block.norm(features))
    shortcut = features if out_channels == 4 else block.shortcut(activated)
    assert torch.equal(block(features), second(relu(norm(first(activated)))) + shortcut)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_gradient(name):
    network, images = small(name), torch.rand(4, 3, 32, 32, requires_grad=True)
    network(images).square().sum().backward()
    assert all(tensor.grad.abs().sum() > 0 for tensor in (images, *network.parameters()))


@pytest.mark.parametrize("name", SMALL)
def test_in_evaluation_an_image_does_not_depend_on_its_batch(name):
    network, images = small(name, (1, 8, 8)), torch.rand(4, 1, 8, 8)
    network(images)
    network.eval()
    alone = torch.cat([network(image[None]) for image in images])
    assert torch.allclose(network(images), alone, atol=1e-5)


@pytest.mark.parametrize(("name", "depth"), [("wideresnet", 4), ("wideresnet", 41), ("densenet", 4), ("densenet", 99)])
def test_other_depths_are_refused(name, depth):
    with pytest.raises(InputError, match=rf"depth {depth} .*6n \+ 4"):
        build_network({"name": name, **SMALL[name], "depth": depth}, (3, 32, 32), 10)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "resnet19", "width": 4}, r"'resnet19': use one of cnn, .*wideresnet"),
        ({"width": 4}, "None: use one of"),
        ({"name": "resnet18"}, "width is missing.*Give width"),
        ({"name": "resnet18", "width": 4, "depth": 18}, "resnet18: depth is unknown"),
        (
            {"name": "wideresnet", "deep": 40},
            "depth is missing, widen is missing, deep is unknown. Give depth and widen",
        ),
        ({"name": "cnn", "width": 4, "outputs": 3}, "outputs is unknown"),
    ],
)
def test_unknown_names_and_options_are_refused(spec, message):
    with pytest.raises(InputError, match=message):
        build_network(spec, (1, 8, 8), 3)
