"""The checksum of what a network holds changes with each of its values, and with nothing else."""

import copy
import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from oodcert import Detector
from oodcert.models.fingerprint import network_sha256, probe_scores


@dataclass
class Options:
    gain: float = 1.0


class Holder(nn.Module):
    """A network with a value in every place where one can be."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.register_buffer("unsaved", torch.ones(2), persistent=False)
        self.plain = torch.ones(2)
        self.array = np.ones(2)
        self.listed = [{"deep": torch.ones(2)}]
        self.unregistered = [nn.Linear(2, 2)]
        self.options = Options()
        self.temperature = 1.0
        self.function = partial(torch.mul, 2.0)
        gain = torch.ones(1)
        self.closure = lambda x: gain * x
        self.sparse = torch.eye(3).to_sparse()

    def forward(self, x):
        return self.linear(x.flatten(1))


CHANGES = {
    "a weight": lambda net: net.linear.weight.data.add_(1),
    "a buffer that is not saved": lambda net: net.unsaved.add_(1),
    "a plain tensor": lambda net: net.plain.add_(1),
    "a plain tensor's type": lambda net: setattr(net, "plain", net.plain.double()),
    "an array": lambda net: net.array.__iadd__(1),
    "a tensor in a list of dicts": lambda net: net.listed[0]["deep"].add_(1),
    "a module that is not registered": lambda net: net.unregistered[0].weight.data.add_(1),
    "an object's number": lambda net: setattr(net.options, "gain", 2.0),
    "a number": lambda net: setattr(net, "temperature", 2.0),
    "an argument": lambda net: setattr(net, "function", partial(torch.mul, 3.0)),
    "a variable of a function": lambda net: net.closure.__closure__[0].cell_contents.add_(1),
    "a sparse value": lambda net: net.sparse.mul_(2),
    "an option of a layer": lambda net: setattr(net, "linear", nn.Sequential(net.linear, nn.LeakyReLU(0.3))),
    "another option of a layer": lambda net: setattr(net, "linear", nn.Sequential(net.linear, nn.LeakyReLU(0.2))),
}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Holder()


def test_each_value_counts(network):
    before = network_sha256(network)
    assert network_sha256(copy.deepcopy(network)) == before
    checksums = set()
    for change in CHANGES.values():
        torch.manual_seed(0)
        changed = Holder()
        change(changed)
        checksums.add(network_sha256(changed))
    assert before not in checksums and len(checksums) == len(CHANGES)


def test_calling_a_network_does_not_change_it(network):
    before = network_sha256(network)
    network(torch.zeros(1, 4))
    assert network_sha256(network) == before


def quantised(seed):
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Flatten(), nn.Linear(8, 4)), {nn.Linear})


def scripted(seed):
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(8, 4)))


@pytest.mark.parametrize("make", [quantised, scripted])
def test_packed_and_scripted_weights_count(make):
    assert network_sha256(make(0)) == network_sha256(make(0)) != network_sha256(make(1))


def test_the_probe_sees_another_forward():
    class Gain(nn.Module):
        def __init__(self, gain):
            super().__init__()
            self.forward = lambda x: gain * x.flatten(1)

    images = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    first, again, other = (probe_scores(Detector(Gain(gain)), images, 0.25) for gain in (1, 1, 2))
    assert first == again != other and len(first) == 8
