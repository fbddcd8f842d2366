"""The emulated GPU itself is as particular as a real one."""

import numpy as np
import pytest
import torch
from torch import nn

from emulated_gpu import emulated_gpu


@pytest.fixture
def waits():
    with emulated_gpu() as counted:
        yield counted


def test_what_a_gpu_refuses_is_refused(waits):
    here, there = torch.rand(3, 4), torch.rand(3, 4).to("cuda")
    with pytest.raises(RuntimeError, match="same device"):
        here + there
    with pytest.raises(RuntimeError, match="same device"):
        nn.Linear(4, 2)(there)
    with pytest.raises(TypeError, match="can't convert cuda"):
        there.numpy()
    with pytest.raises(TypeError, match="can't convert cuda"):
        np.asarray(there)
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, device="cuda", generator=torch.Generator())
    assert torch.equal((here.to(there) * torch.tensor(2.0)).cpu(), 2 * here)
    assert (there[torch.tensor([0])].device.type, (here.to(there) + there).is_cuda) == ("cuda", True)


def test_training_stays_on_the_device(waits):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3)).to("cuda")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    before = network[0].weight.detach().cpu()
    for _ in range(2):
        with torch.autocast("cuda", torch.bfloat16):
            logits = network(torch.rand(4, 1, 8, 8, device="cuda"))
        assert logits.dtype == torch.bfloat16 and logits.is_cuda
        optimizer.zero_grad()
        logits.float().square().sum().backward()
        optimizer.step()
    assert network[0].weight.is_cuda and network[0].weight.grad.is_cuda and network[1].running_mean.is_cuda
    assert not torch.equal(before, network[0].weight.detach().cpu())


def test_what_waits_for_the_device_is_counted(waits):
    there = torch.rand(3).to("cuda")
    waits.clear()
    float(there.sum()), there.tolist(), bool(there[0] > 2), there[there > 0.5], there.cpu()
    assert sum(waits.values()) == 5
    waits.clear()
    torch.rand(3).pin_memory().to("cuda", non_blocking=True) + there
    assert not waits


def test_a_copy_that_does_not_block_has_no_numbers_until_it_is_waited_for(waits):
    there = torch.ones(3).to("cuda")
    rows = there.to("cpu", non_blocking=True)
    done = torch.cuda.current_stream(there.device).record_event()
    assert rows.isnan().all()
    done.synchronize()
    assert rows.tolist() == [1, 1, 1]
