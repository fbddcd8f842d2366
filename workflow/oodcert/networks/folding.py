"""Batch norms put into the convolutions before them, for networks that are evaluated only."""

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from oodcert.certification.interval import hooked


def folded(network):
    """The network, changed in place: each batch norm right after a convolution in an nn.Sequential is in its weights.

    network: any nn.Module in evaluation mode, which computes the same function but for float rounding, and faster.
    Layers with hooks, which may change what is computed, stay as they are. Do not train it.
    """
    for module in network.modules():
        if type(module) is not nn.Sequential:
            continue
        for index, (layer, norm) in enumerate(pairwise(list(module))):
            if type(layer) is nn.Conv2d and type(norm) is nn.BatchNorm2d and not (hooked(layer) or hooked(norm)):
                module[index], module[index + 1] = fuse_conv_bn_eval(layer, norm), nn.Identity()
    return network
