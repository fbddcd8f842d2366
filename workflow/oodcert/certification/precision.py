"""The precision of networks that are sampled: float32, or bfloat16, with networks that a GPU runs compiled.

In bfloat16 the networks run under autocast, and nothing else does: logits leave it in float64, and so scores and
statistics are of float64. The certificate is then one of the network as it is computed, rounding included.
"""

from contextlib import ExitStack, contextmanager, nullcontext

import torch

from oodcert.errors import InputError
from oodcert.models.architectures.denoiser import DiffusionDenoiser
from oodcert.models.checks import shaped_logits
from oodcert.models.wrappers import ClassLogits, DenoisedNetwork, JointNetwork, NoisyNetwork

PRECISIONS = ("float32", "bfloat16")
WRAPPERS = (ClassLogits, DenoisedNetwork, DiffusionDenoiser, JointNetwork, NoisyNetwork)
# the default mode, without the benchmarks on the device by which kernels, hence the order of sums, would be chosen
INDUCTOR = {"backend": "inductor", "options": {"deterministic": True}}


def check_precision(precision):
    if precision not in PRECISIONS:
        raise InputError(f"precision = {precision!r}: use 'float32' or 'bfloat16'.")


def marked_logits(network, images, precision):
    """(logits [N, K], whether a row's are all finite [N]), without waiting for the device; of bfloat16 in float64."""
    if precision == "float32":
        logits = shaped_logits(network, images)
    else:
        with torch.autocast(images.device.type, torch.bfloat16):
            logits = shaped_logits(network, images).double()
    return logits, logits.isfinite().all(1)


def prepared(networks, device, precision):
    """A context in which these networks are sampled: compiled where that pays, in bfloat16 on a GPU."""
    on_gpu = torch.device(device).type == "cuda"
    return compiled(networks) if on_gpu and precision == "bfloat16" else nullcontext()


@contextmanager
def compiled(networks, how=INDUCTOR):
    """Within it the parts of the networks, but for this library's wrappers around them, run compiled, for each shape
    anew; the modules are unchanged afterwards. how: arguments of torch.compile.

    A part of several networks is compiled once, and a denoiser's result can still be shared between them: that happens
    in the wrappers. What was compiled is kept by torch, and used again in the next such context.
    """
    with ExitStack() as stack:
        for part in dict.fromkeys(part for network in networks for part in _parts(network)):
            stack.enter_context(_running(part, torch.compile(part.forward, dynamic=False, **how)))
        yield


def _parts(network):
    """The largest modules inside a network that have no wrapper inside."""
    if any(isinstance(module, WRAPPERS) for module in network.modules()):
        return [part for child in network.children() for part in _parts(child)]
    return [network]


@contextmanager
def _running(module, forward):
    """Within it, forward takes the place of the module's own."""
    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own
