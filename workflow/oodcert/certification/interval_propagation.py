"""Interval bound propagation: sound output bounds over a box of inputs, for any network.

A network is run once on an Interval, a tensor whose operations have interval rules. So what is bounded is what the
network's own code computes, subclasses, views and in-place operations included. An operation without a rule is refused.

Source: Gowal et al. 2018, https://arxiv.org/abs/1810.12715
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import resolve_name

from oodcert.errors import InputError
from oodcert.models.calls import failure, fitted, require_network
from oodcert.models.checks import hooked
from oodcert.models.images import as_tensor
from oodcert.models.outputs import logits_of
from oodcert.runtime.memory import is_out_of_memory

Operation = Callable[..., Any]  # a function or method of torch, or a rule for it
RULES: dict[Operation, Operation] = {}  # function of torch -> what it does with an Interval among its arguments

MODAL = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.Dropout, nn.Dropout2d)  # layers that differ in training


class NoRule(InputError):
    """A network that interval bounds cannot follow. Whatever depends on its bounds takes the worst value."""


class Interval(torch.Tensor):
    """All tensors between lower and upper, elementwise. It has no storage of its own.

    Attributes:
        lower: The smallest values.
        upper: The largest values.
        product: What this is the result of, if that is a linear layer.
    """

    lower: Tensor
    upper: Tensor
    product: "Product | None"

    @staticmethod
    def __new__(cls: type["Interval"], lower: Tensor, upper: Tensor) -> "Interval":
        self = torch.Tensor._make_wrapper_subclass(cls, lower.shape, dtype=lower.dtype, device=lower.device)
        self.lower, self.upper, self.product = lower, upper, None
        return self

    @classmethod
    def __torch_function__(
        cls,
        function: Operation,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function not in RULES or "out" in kwargs or "alpha" in kwargs:
            name, options = resolve_name(function) or function, f" with {', '.join(kwargs)}" if kwargs else ""
            raise NoRule(f"No interval rule for {name}{options}: its bound would be vacuous.")
        try:
            return RULES[function](function, *args, **kwargs)
        except TypeError as error:
            raise NoRule(f"No interval rule for this way of calling {resolve_name(function)} ({error}).") from error

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch declares a plain function
        cls,
        function: Operation,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        raise NoRule(f"No interval rule for {function}, which the network calls past torch's Python functions.")


class Product(NamedTuple):
    """A linear layer's result W·f + b over an interval of features f."""

    lower: Tensor  # of the features
    upper: Tensor
    weight: Tensor
    bias: Tensor | None
    tensors: tuple[Tensor, ...]  # that must stay as they are: those above, and the ends of the result
    versions: tuple[int, ...]

    def holds(self) -> bool:
        """Whether nothing has been written into the tensors since."""
        return self.versions == tuple(one._version for one in self.tensors)

    def differences(self) -> Tensor:
        """Upper bounds [N, K, K] on the differences of outputs: the diagonal is 0."""
        low, high = _finite_ends(self.lower, self.upper)
        logits, half = functional.linear((low + high) / 2, self.weight, self.bias), (high - low) / 2
        spread = [functional.linear(half, (row - self.weight).abs()) for row in self.weight]
        return _nan_is_vacuous(logits[:, :, None] - logits[:, None, :] + torch.stack(spread, 1))


def interval_bounds(network: nn.Module, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds on a network's outputs over the box lower ≤ x ≤ upper.

    They cost about two passes of the network. They are sound in exact arithmetic; in float64 the rounding error is
    negligible.

    Args:
        network: Any deterministic nn.Module, in evaluation mode. It computes by convolutions, linear layers, batch
            norm, ReLU, pooling, sums, differences, constant factors, concatenation, means and changes of shape. These
            may be modules, functions or methods, in any arrangement.
        lower: Smallest inputs [N, C, H, W].
        upper: Largest inputs [N, C, H, W].

    Returns:
        (lower, upper) of the output's shape, differentiable in the weights; infinite where the arithmetic overflows.

    Raises:
        InputError: The two bounds are swapped or of other shapes, or a layer is in training mode.
        NoRule: (an InputError) A function of torch has no rule; the message names it.

    Source: Gowal et al. 2018, https://arxiv.org/abs/1810.12715
    """
    output = _propagate(network, lower, upper)
    return _finite_ends(output.lower, output.upper)


def logit_difference_bounds(network: nn.Module, lower: Tensor, upper: Tensor) -> Tensor:
    """Upper bounds D on the logit differences: f_k(x) - f_l(x) ≤ D[:, k, l] for lower ≤ x ≤ upper.

    The last linear layer is elided: the differences are bounded through the differences of its weights. That is never
    looser than upper_k - lower_l.

    Args:
        network: nn.Sequential (nested allowed) whose last module is nn.Linear, otherwise as for interval_bounds.
        lower: Smallest inputs [N, C, H, W].
        upper: Largest inputs [N, C, H, W].

    Returns:
        D [N, K, K], differentiable in the weights; the diagonal is 0.

    Raises:
        InputError: As interval_bounds, and where the last module is no nn.Linear.

    Source: Gowal et al. 2018, https://arxiv.org/abs/1810.12715;
        Bitterwolf et al. 2020 (GOOD), https://arxiv.org/abs/2007.08473
    """
    *_, head = layers(network)
    output = _propagate(network, lower, upper) if type(head) is nn.Linear else None
    if output is None or output.product is None:
        raise InputError(
            f"logit_difference_bounds needs an nn.Sequential that ends in nn.Linear, not in {type(head).__name__}."
        )
    return output.product.differences()


def difference_bounds(network: nn.Module, lower: Tensor, upper: Tensor) -> Tensor:
    """Upper bounds on the logit differences of any network, as of logit_difference_bounds where it has them.

    It has them if it ends in nn.Linear and nothing, such as a hook, changes what that gives.

    Args:
        network: As for interval_bounds.
        lower: Smallest inputs [N, C, H, W].
        upper: Largest inputs [N, C, H, W].

    Returns:
        D [N, K, K]; the diagonal is 0.

    Raises:
        InputError: As interval_bounds.
    """
    output = _propagate(network, lower, upper)
    if output.ndim != 2:
        raise NoRule(f"{type(network).__name__} gives {tuple(output.shape)}, no logits [N, K].")
    if output.product is not None and type(layers(network)[-1]) is nn.Linear:
        return output.product.differences()
    low, high = _finite_ends(output.lower, output.upper)
    differences = high[:, :, None] - low[:, None, :]
    return differences.masked_fill(torch.eye(low.shape[1], dtype=torch.bool, device=low.device), 0)


def _propagate(network: nn.Module, lower: Tensor, upper: Tensor) -> Interval:
    """The network's output over a box; `product` is kept where it still holds."""
    lower, upper = _box(require_network(network), lower, upper)
    for layer in network.modules():
        if getattr(layer, "training", False) and isinstance(layer, MODAL):
            raise InputError(f"{type(layer).__name__} is in training mode: call .eval() before bounding the network.")
    name, gradients = type(network).__name__, torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    states = _random_states(lower)
    with torch.inference_mode(False), torch.set_grad_enabled(gradients):  # versions tell what is written in place
        output = logits_of(_output(network, lower, upper), name)
        if not isinstance(output, Interval):
            raise NoRule(f"{name} gave no tensor that operations with a rule computed from its input.")
        if output.product is not None and not output.product.holds():
            output.product = None
    if not all(map(torch.equal, states, _random_states(lower))):
        raise NoRule(f"{name} draws random numbers, which no interval bound holds for.")
    return output


def _output(network: nn.Module, lower: Tensor, upper: Tensor) -> Any:
    """What the network returns for the box; InputError where it fails."""
    try:
        return network(Interval(lower.clone(), upper.clone()))  # in-place layers must not reach the caller's tensors
    except InputError:
        raise
    except Exception as error:  # it is any code
        if is_out_of_memory(error):
            raise
        raise InputError(failure(type(network).__name__, lower, error)) from error


def _random_states(images: Tensor) -> list[Tensor]:
    """torch's random states where a network may draw from them."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(images.device)] if images.is_cuda else [])]


def _box(network: nn.Module, lower: Any, upper: Any) -> tuple[Tensor, Tensor]:
    """The ends of a box in the type of the network's weights."""
    ends = [as_tensor(one, "interval_bounds needs two float tensors") for one in (lower, upper)]
    low, high = (fitted(network, one) if one.is_floating_point() else one for one in ends)
    if low.shape != high.shape or low.dtype != high.dtype or not low.is_floating_point() or not low.numel():
        shapes = " and ".join(f"{one.dtype} of shape {tuple(one.shape)}" for one in ends)
        raise InputError(f"interval_bounds needs two float tensors of one shape and at least one image, got {shapes}.")
    if not bool((low <= high).all()):
        raise InputError("interval_bounds needs lower ≤ upper everywhere; the two arguments may be swapped.")
    for one in (low, *network.parameters()):
        if one.is_floating_point() and one.dtype.itemsize < 4:
            raise NoRule(
                f"Interval bounds do not hold the rounding of {one.dtype}: bound network.double(), on a box of float64."
            )
    return low, high


def layers(network: nn.Module) -> list[nn.Module]:
    """The modules of an nn.Sequential in order, nested ones included.

    Another network counts as one layer. So does one with hooks or a forward of its own, which may change what it
    computes.

    Args:
        network: Any nn.Module.

    Returns:
        The layers, in the order in which images pass through them.
    """
    if type(network) is not nn.Sequential or hooked(network):
        return [network]
    return [layer for child in network for layer in layers(child)]


def _finite_ends(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """The ends without NaN: what can't be told is anything."""
    return lower.masked_fill(lower.isnan(), -torch.inf), _nan_is_vacuous(upper)


def _nan_is_vacuous(upper: Tensor) -> Tensor:
    return upper.masked_fill(upper.isnan(), torch.inf)


def _rule(*functions: Operation) -> Callable[[Operation], Operation]:
    """A decorator that registers the rule of these functions."""

    def register(rule: Operation) -> Operation:
        RULES.update(dict.fromkeys(functions, rule))
        return rule

    return register


def _constant(*values: Any) -> None:
    """Raises NoRule where a value that must not depend on the input does."""
    for value in values:
        if isinstance(value, list | tuple):
            _constant(*value)
        elif isinstance(value, Interval):
            raise NoRule("No interval rule where weights, factors, divisors or indices depend on the input.")
        elif isinstance(value, complex) or (isinstance(value, Tensor) and value.is_complex()):
            raise NoRule("No interval rule for complex numbers, which have no order.")


def _ends(value: Any) -> tuple[Any, Any]:
    """(lower, upper) of an Interval, and of a constant twice itself."""
    return (value.lower, value.upper) if isinstance(value, Interval) else (value, value)


def _centre(interval: Interval) -> tuple[Tensor, Tensor]:
    """(centre, half-width), new tensors."""
    return (interval.lower + interval.upper).div_(2), (interval.upper - interval.lower).div_(2)


def _around(centre: Tensor, half: Tensor) -> Interval:
    """The Interval of a centre and a half-width. The centre is overwritten: every large tensor costs."""
    lower = centre - half
    return Interval(lower, centre.add_(half))


REDUCTIONS = (torch.mean, torch.Tensor.mean, torch.sum, torch.Tensor.sum)


def _refuse_types(function: Operation, *values: Any) -> None:
    """Raises NoRule where another type of number is asked for: bits seen as it, and small integers, have no order."""
    for value in values:
        if isinstance(value, torch.dtype):
            raise NoRule(f"No interval rule for {resolve_name(function)} with another type, {value}.")


def _refuse_across_images(function: Operation, ndim: int, dim: Any = None, *args: Any, **options: Any) -> None:
    """Raises NoRule where a mean or sum is over the images of a batch, whose bounds then depend on each other."""
    dims = range(ndim) if dim is None or dim == () else dim if isinstance(dim, list | tuple) else [dim]
    if any(one in (0, -ndim) for one in dims):
        raise NoRule(f"No interval rule for {resolve_name(function)} over the images of a batch.")


# The rules name their arguments as torch does, for calls by keyword.


@_rule(
    *(getattr(torch.Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device")),
    *(torch.Tensor.size, torch.Tensor.dim, torch.Tensor.numel, torch.Tensor.__len__),
    *(torch.Tensor.is_floating_point, torch.is_floating_point),
)
def _description(function: Operation, input: Interval, *args: Any, **options: Any) -> Any:
    """What does not depend on the values."""
    return function(input.lower, *args, **options)


@_rule(
    *(functional.relu, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_),
    *(functional.max_pool2d, functional.adaptive_max_pool2d, functional.adaptive_avg_pool2d),
    *(torch.mean, torch.Tensor.mean, torch.sum, torch.Tensor.sum),
    *(torch.flatten, torch.Tensor.flatten, torch.reshape, torch.Tensor.reshape, torch.Tensor.view),
    *(torch.squeeze, torch.Tensor.squeeze, torch.unsqueeze, torch.Tensor.unsqueeze),
    *(torch.permute, torch.Tensor.permute, torch.transpose, torch.Tensor.transpose),
    *(torch.clone, torch.Tensor.clone, torch.Tensor.contiguous, torch.Tensor.__getitem__, functional.pad),
    *(functional.pixel_unshuffle, functional.pixel_shuffle),
)
def _nondecreasing(function: Operation, input: Any, *args: Any, **options: Any) -> Interval:
    """Applied to both ends, as a view or in place where the function is, so that aliases stay aliases."""
    _constant(*args, *options.values())
    _refuse_types(function, *args, *options.values())
    if function in REDUCTIONS:
        _refuse_across_images(function, input.ndim, *args, **options)
    return Interval(function(input.lower, *args, **options), function(input.upper, *args, **options))


@_rule(
    *(torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__),
    *(torch.div, torch.Tensor.div, torch.Tensor.__truediv__),
    *(torch.neg, torch.Tensor.neg, torch.Tensor.__neg__, functional.avg_pool2d),
)
def _monotone(function: Operation, input: Any, *args: Any, **options: Any) -> Interval:
    """In each element nondecreasing or nonincreasing, by the sign of a factor (or of avg_pool2d's divisor)."""
    if not isinstance(input, Interval) and function in (torch.mul, torch.Tensor.mul, torch.Tensor.__mul__):
        input, args = args[0], (input,)
    _constant(*args, *options.values())
    ends = function(input.lower, *args, **options), function(input.upper, *args, **options)
    return Interval(torch.minimum(*ends), torch.maximum(*ends))


@_rule(functional.conv2d, functional.linear)
def _affine(
    function: Operation, input: Any, weight: Tensor, bias: Tensor | None = None, *args: Any, **options: Any
) -> Interval:
    """W applied to the centre, |W| to the half-width; the factor 1/2 of both is put where the fewest numbers are."""
    _constant(weight, bias)
    ends, few = input, input.lower.numel() < weight.numel()
    centre, half = _centre(input) if few else (input.lower + input.upper, input.upper - input.lower)
    centre = function(centre, weight if few else weight / 2, bias, *args, **options)
    half = function(half, weight.abs() if few else weight.abs() / 2, None, *args, **options)
    result = _around(centre, half)
    if function is functional.linear and not weight.is_inference():
        kept = (ends.lower, ends.upper, weight, *(() if bias is None else (bias,)), result.lower, result.upper)
        result.product = Product(ends.lower, ends.upper, weight, bias, kept, tuple(one._version for one in kept))
    return result


@_rule(functional.batch_norm)
def _batch_norm(
    function: Operation,
    input: Any,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Interval:
    if training:
        raise NoRule("No interval rule for batch norm by the batch's own statistics: bounds need running ones.")
    _constant(running_mean, running_var, weight, bias)
    centre, half = _centre(input)
    centre = function(centre, running_mean, running_var, weight, bias, eps=eps)
    scale = 1 / torch.sqrt(running_var + eps)
    scale = scale if weight is None else scale * weight
    half = half * scale.abs().reshape(-1, *(1,) * (half.ndim - 2))
    return _around(centre, half)


@_rule(functional.dropout, functional.dropout2d)
def _dropout(
    function: Operation, input: Interval, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Interval:
    if training:
        raise NoRule("No interval rule for dropout in training mode.")
    return input


@_rule(torch.add, torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.__radd__)
def _add(function: Operation, input: Any, other: Any) -> Interval:
    (low, high), (other_low, other_high) = _ends(input), _ends(other)
    return Interval(low + other_low, high + other_high)


@_rule(torch.sub, torch.Tensor.sub, torch.Tensor.__sub__)
def _sub(function: Operation, input: Any, other: Any) -> Interval:
    (low, high), (other_low, other_high) = _ends(input), _ends(other)
    return Interval(low - other_high, high - other_low)


@_rule(torch.rsub, torch.Tensor.__rsub__)
def _rsub(function: Operation, input: Any, other: Any) -> Interval:
    return _sub(torch.sub, other, input)


@_rule(torch.cat)
def _cat(function: Operation, tensors: Iterable[Any], dim: int = 0) -> Interval:
    lower, upper = zip(*map(_ends, tensors), strict=True)
    return Interval(torch.cat(lower, dim), torch.cat(upper, dim))


IN_PLACE: dict[Operation, Operation] = {
    torch.Tensor.add_: torch.add,
    torch.Tensor.__iadd__: torch.add,
    torch.Tensor.sub_: torch.sub,
    torch.Tensor.__isub__: torch.sub,
    torch.Tensor.mul_: torch.mul,
    torch.Tensor.__imul__: torch.mul,
    torch.Tensor.div_: torch.div,
    torch.Tensor.__itruediv__: torch.div,
}


@_rule(*IN_PLACE)
def _in_place(function: Operation, input: Any, other: Any) -> Interval:
    """Written into both ends, so that every view of them changes too."""
    if not isinstance(input, Interval):
        raise NoRule("No interval rule for writing features into a constant.")
    result = IN_PLACE[function](input, other)
    input.product = None
    input.lower.copy_(result.lower)
    input.upper.copy_(result.upper)
    return input
