import pytest
import torch

from oodcert.errors import InputError
from oodcert.models.networks import build_network


def small(image_shape=(3, 32, 32), outputs=10, depth=8, width=4):
    torch.manual_seed(0)
    return build_network({"name": "resnet", "depth": depth, "width": width}, image_shape, outputs)


def test_resnet20_has_the_size_of_the_paper():
    stem, head = 3 * 16 * 9 + 2 * 16, 64 * 10 + 10
    equal = 6 * 9 * (16**2 + 32**2 + 64**2) - 9 * (32 * 32 + 64 * 64) + 9 * (16 * 32 + 32 * 64)
    norms = 6 * 2 * (16 + 32 + 64)
    shortcuts = 16 * 32 + 32 * 64 + 2 * (32 + 64)
    parameters = sum(tensor.numel() for tensor in small(depth=20, width=16).parameters())
    assert parameters == stem + equal + norms + shortcuts + head == 272_474


@pytest.mark.parametrize("depth", [8, 14])
@pytest.mark.parametrize("image_shape", [(3, 32, 32), (1, 28, 28), (2, 9, 7)])
def test_any_image_becomes_logits(depth, image_shape):
    assert small(image_shape, 5, depth)(torch.rand(3, *image_shape)).shape == (3, 5)


def test_the_stages_halve_the_resolution():
    network, sizes = small(depth=14), []
    for module in network:
        module.register_forward_hook(lambda _, __, output: sizes.append(tuple(output.shape[1:])))
    network(torch.rand(2, 3, 32, 32))
    blocks = [(4, 32, 32)] * 2 + [(8, 16, 16)] * 2 + [(16, 8, 8)] * 2
    assert sizes == [(4, 32, 32)] * 3 + blocks + [(16, 1, 1), (16,), (10,)]


@pytest.mark.parametrize("depth", [-4, 0, 2, 7, 18, 21])
def test_other_depths_are_refused(depth):
    with pytest.raises(InputError, match=rf"depth {depth} .*6n \+ 2"):
        small(depth=depth)


def test_every_parameter_gets_a_gradient():
    network = small()
    images = torch.rand(4, 3, 32, 32, requires_grad=True)
    network(images).square().sum().backward()
    assert all(tensor.grad.abs().sum() > 0 for tensor in (images, *network.parameters()))


def test_in_evaluation_an_image_does_not_depend_on_its_batch():
    network, images = small(), torch.rand(6, 3, 32, 32)
    network(images)
    network.eval()
    alone = torch.cat([network(image[None]) for image in images])
    assert torch.allclose(network(images), alone, atol=1e-5)
    assert not torch.allclose(network.train()(images), alone, atol=1e-2)


def test_the_shortcut_is_the_identity_where_it_can_be():
    block = small(depth=14)[4].eval()
    for tensor in block.residual.parameters():
        torch.nn.init.zeros_(tensor)
    features = torch.rand(2, 4, 5, 5)
    assert torch.equal(block(features), features)
