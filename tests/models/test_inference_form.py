"""Networks as they are evaluated, batch norms in the convolutions before them and another layout: the same function."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from interval_boxes import random_images, randomised
from oodcert import interval_bounds
from oodcert.models.architectures.patch_unet import PatchUNet
from oodcert.models.inference_form import folded, laid_out
from oodcert.models.networks import build_network

LEFT = {  # batch norms that follow no convolution of an nn.Sequential
    ("cnn", "width", 4): 0,
    ("resnet", "width", 4): 0,
    ("patch_resnet", "width", 4): 0,
    ("resnet18", "width", 4): 0,
    ("wideresnet", "widen", 1): 7,
}


def network_of(name, option, value, side=16):
    depth = {"resnet": 8, "patch_resnet": 8, "wideresnet": 16}.get(name)
    spec = {"name": name, option: value, **({"depth": depth} if depth else {})}
    return randomised(build_network(spec, (3, side, side), 5))


def norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("spec", LEFT, ids=lambda spec: spec[0])
def test_a_folded_network_computes_the_same(spec):
    network, images = network_of(*spec), random_images(6, 3, 16, 16)
    whole = deepcopy(network)
    assert norms(folded(network)) == LEFT[spec] < norms(whole)
    torch.testing.assert_close(network(images), whole(images), rtol=1e-10, atol=1e-10)
    for bound, expected in zip(
        *(interval_bounds(one, images - 0.01, images + 0.01) for one in (network, whole)), strict=True
    ):
        torch.testing.assert_close(bound, expected, rtol=1e-10, atol=1e-10)
    assert norms(folded(network)) == LEFT[spec]


def test_layers_that_others_hook_into_stay():
    layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)).eval()
    layers[2].register_forward_hook(lambda module, inputs, output: output + 1)
    images = random_images(2, 1, 8, 8, dtype=torch.float32)
    expected = layers(images)
    assert norms(folded(layers)) == 1
    torch.testing.assert_close(layers(images), expected)


def test_norms_by_the_statistics_of_the_batch_stay():
    layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)).eval()
    images = random_images(4, 1, 8, 8, dtype=torch.float32)
    expected = layers(images)
    assert norms(folded(layers)) == 1
    assert torch.equal(layers(images), expected)


def channels_last(network):
    return [
        module.weight.is_contiguous(memory_format=torch.channels_last)
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.weight.shape[1] > 1 < module.weight.shape[2]
    ]


@pytest.mark.parametrize(
    "spec", [*LEFT, ("ibp_cnn_s", "width", 4), ("ibp_cnn_xl", "width", 4)], ids=lambda spec: spec[0]
)
def test_a_network_laid_out_computes_the_same(spec):
    network, images = network_of(*spec, side=32), random_images(3, 3, 32, 32)
    whole = deepcopy(network)
    assert all(channels_last(laid_out(network, (3, 32, 32)))) and not any(channels_last(whole))
    torch.testing.assert_close(network(images), whole(images), rtol=1e-10, atol=1e-10)
    points = images.clone().requires_grad_()
    gradients = [torch.autograd.grad(one(points).sum(), points)[0] for one in (network, whole)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-10)


def test_small_images_and_layers_of_others_keep_their_layout():
    class View(nn.Module):
        def forward(self, features):
            return features.view(len(features), -1)

    assert not any(channels_last(laid_out(nn.Sequential(nn.Conv2d(3, 4, 3)), (3, 8, 8))))
    foreign = nn.Sequential(nn.Conv2d(3, 4, 3), View())
    assert (
        not any(channels_last(laid_out(foreign, (3, 32, 32))))
        and foreign(random_images(2, 3, 32, 32, dtype=torch.float32)).ndim == 2
    )


def test_the_small_unet_keeps_its_layout():
    unet = PatchUNet((3, 32, 32), [8], 1)
    assert not any(channels_last(laid_out(unet, (3, 32, 32))))
