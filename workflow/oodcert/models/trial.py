"""A trial of a network on a few images, before anything is computed with it."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from oodcert.errors import InputError
from oodcert.models.calls import shaped_logits, without_gradients
from oodcert.models.outputs import are_probabilities

ALIKE = {torch.float16: 2e-2, torch.bfloat16: 5e-2}  # what passes of one shape may differ by, of the logits' spread
Judge = Callable[[nn.Module, Tensor, Tensor], None]  # (network, images, logits); raises InputError


def try_network(network: nn.Module, images: Tensor, judge: Judge) -> None:
    """Tries a network on the first image, in batches of two and three images with different others.

    A copy without forward hooks is tried first, so that the network itself is not called, changed or counted. Only
    where that fails, or there is no copy, the network is tried.

    A network with randomness of its own gets the same random numbers in each pass, and torch's random state is the same
    afterwards. Where two passes over one batch differ all the same, as of a network with a generator of its own, the
    company of an image is not judged.

    Args:
        network: In evaluation mode, on the device of the images.
        images: Float tensor [N, C, H, W] in [0, 1], of which one is used.
        judge: Raises InputError where the logits [3, K] of three images will not do.

    Raises:
        InputError: The network fails, gives no logits [N, K], what it gives for an image depends on the others, or the
            judge says so.
    """
    twin = _twin(network)
    if twin is not None:
        try:
            return _try(twin, images, judge)
        except InputError:
            pass
    return _try(network, images, judge)


def refuse_probabilities(network: nn.Module, images: Tensor, logits: Tensor) -> None:
    """Refuses a network that returns probabilities, whose softmax would be taken once more.

    Args:
        network: The network.
        images: Those of its trial.
        logits: Those of its trial.

    Raises:
        InputError: Every row is a distribution, also of pixels far beyond [0, 1], where it can be tried on them.
    """
    if not are_probabilities(logits):
        return
    try:
        with _passes(network, images) as again:
            wide = again(network, torch.cat([9 * images[:1] - 18, 9 * images[:1] + 9]))
    except InputError:
        wide = logits
    if are_probabilities(wide):
        raise InputError(
            f"{type(network).__name__} gives probabilities, rows that sum to 1, where logits are needed: leave its "
            "softmax out, or take a score of your own, such as lambda probabilities: probabilities.amax(1)."
        )


def _try(network: nn.Module, images: Tensor, judge: Judge) -> None:
    image = images[:1].detach()
    ramp = torch.linspace(0, 1, image.numel(), dtype=image.dtype, device=image.device).reshape(image.shape)
    company = torch.cat([ramp, image, torch.ones_like(image)])
    alone = image.repeat(3, *(1,) * (image.ndim - 1))
    with _passes(network, image) as again:
        once, other, twice, pair = (again(network, batch) for batch in (alone, company, alone, company[1:]))
    name, classes = type(network).__name__, {len(one[0]) for one in (once, other, twice, pair)}
    if len(classes) > 1:
        raise InputError(f"{name} gives {sorted(classes)} logits for one image: one number of classes is needed.")
    allowed = ALIKE.get(once.dtype, 1e-4)
    depends = _differ(once[1], other[1], allowed)
    if not again.drew:  # in a batch of another size an image gets other random numbers
        depends |= _differ(once[1], pair[0], max(4 * allowed, 2e-2))
    if depends and not _differ(once, twice, allowed):
        raise InputError(
            f"{name} gives an image other logits in a batch with other images, so no score of an image is defined. "
            "Give batch norm running statistics (track_running_stats=True, evaluation mode), do not quantise "
            "dynamically, and compute nothing across the batch dimension."
        )
    judge(network, company, other)


def _twin(network: nn.Module) -> nn.Module | None:
    """A copy without forward hooks and without torch.compile; None where there is none.

    A hook may count what passes, and a bound method among the hooks would take its object along.
    """
    network = getattr(network, "_orig_mod", network)  # what torch.compile wraps
    if any(is_lazy(one) for one in (*network.parameters(), *network.buffers())):
        return None
    memo: dict[int, object] = {}
    for module in network.modules():
        memo[id(module._forward_hooks)] = OrderedDict()
        memo[id(module._forward_pre_hooks)] = module._forward_pre_hooks
    try:
        twin = deepcopy(network, memo)
    except Exception:  # it is any code
        return None
    for module in twin.modules():
        if hasattr(vars(module).get("forward"), "_torchdynamo_orig_callable"):
            del module.forward
    return twin


@contextmanager
def _passes(network: nn.Module, images: Tensor) -> Iterator["_Again"]:
    """A context of passes that all begin with the same random state, which is restored."""
    again = _Again({one.device for one in (images, *network.parameters(), *network.buffers())})
    try:
        with without_gradients():
            yield again
    finally:
        again.restore()


class _Again:
    """Runs networks, each time with the random numbers that come next at the start.

    Attributes:
        drew: Whether a network drew some.
    """

    def __init__(self, devices: set[torch.device]) -> None:
        self.drew = False
        self.state = torch.get_rng_state()
        self.device_states = {one: torch.cuda.get_rng_state(one) for one in devices if one.type == "cuda"}

    def __call__(self, network: nn.Module, images: Tensor) -> Tensor:
        self.restore()
        logits = shaped_logits(network, images.clone())
        self.drew |= not torch.equal(torch.get_rng_state(), self.state) or any(
            not torch.equal(torch.cuda.get_rng_state(one), state) for one, state in self.device_states.items()
        )
        return logits

    def restore(self) -> None:
        torch.set_rng_state(self.state)
        for device, state in self.device_states.items():
            torch.cuda.set_rng_state(state, device)


def _differ(one: Tensor, other: Tensor, allowed: float) -> bool:
    """Whether two tensors of logits differ by more than rounding. Where one is not finite, nothing is said."""
    eps = torch.finfo(one.dtype).eps
    one, other = one.double(), other.double()
    if not (one.isfinite().all() and other.isfinite().all()):
        return False
    spread = one.amax(-1) - one.amin(-1)
    return bool(((one - other).abs().amax(-1) > allowed * spread + 64 * eps * one.abs().amax(-1)).any())
