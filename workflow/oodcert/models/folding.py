"""Batch norms put into the convolutions before them, for networks that are evaluated only."""

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from oodcert.models.checks import hooked


def folded(network):
    """The network, changed in place: each batch norm right after a convolution in an nn.Sequential is in its weights.

    network: any nn.Module in evaluation mode, which computes the same function but for float rounding, and faster.
    Layers with hooks, which may change what is computed, stay as they are, and so do norms by the batch's own
    statistics. Do not train it.
    """
    for module in network.modules():
        if type(module) is not nn.Sequential:
            continue
        for index, (layer, norm) in enumerate(pairwise(list(module))):
            if type(layer) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d or norm.running_mean is None:
                continue
            if not (hooked(layer) or hooked(norm)):
                module[index], module[index + 1] = fuse_conv_bn_eval(layer, norm), nn.Identity()
    return network
