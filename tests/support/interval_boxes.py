"""Networks with random weights, and points of a box that push their outputs to extremes."""

import itertools

import torch


def randomised(network, seed=0):
    """Random weights and batch norm statistics, so that no layer is near the identity; float64, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(values.abs() + 0.5 if name.endswith("running_var") else 0.3 * values)
    return network.eval().double()


def random_images(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def corners(lower, upper):
    """All corners of one small box."""
    points = itertools.product(*zip(lower.flatten().tolist(), upper.flatten().tolist(), strict=True))
    return torch.tensor(list(points), dtype=lower.dtype).reshape(-1, *lower.shape)


def attacks(function, lower, upper, seed=0):
    """Points of the box: random ones, random corners, and for each output the corners to which its gradient points."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(10):
        yield lower + (upper - lower) * torch.rand(lower.shape, generator=generator, dtype=lower.dtype)
        yield torch.where(torch.rand(lower.shape, generator=generator) < 0.5, lower, upper)
    centre = ((lower + upper) / 2).requires_grad_()
    for output in function(centre).reshape(len(centre), -1).sum(0)[:20]:
        (gradient,) = torch.autograd.grad(output, centre, retain_graph=True)
        yield torch.where(gradient > 0, upper, lower)
        yield torch.where(gradient > 0, lower, upper)
