"""Checks of what a network returns, and of what changes it from outside."""

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from oodcert.errors import InputError
from oodcert.models.calls import shaped_logits


def checked_logits(network: nn.Module, images: Tensor) -> Tensor:
    """The network's logits, which must be finite.

    Args:
        network: Maps images [N, C, H, W] to logits [N, K].
        images: Float tensor [N, C, H, W].

    Returns:
        Logits [N, K].

    Raises:
        InputError: The network fails, or the logits have another shape or are not finite.
    """
    logits = shaped_logits(network, images)
    refuse_rows(network, ~logits.isfinite().all(1))
    return logits


def refuse_rows(network: nn.Module, bad: Tensor) -> None:
    """Refuses logits of which some rows are not finite.

    Args:
        network: The network that gave the logits; the message names its class.
        bad: Boolean [N], true where a row of the logits is not finite.

    Raises:
        InputError: A row is bad.
    """
    if bad.any():
        raise InputError(
            f"{type(network).__name__} gave NaN or infinite logits for {bad.sum()} of {len(bad)} images. "
            "Check its weights and its input normalisation; no score is defined for such logits."
        )


def hooked(module: nn.Module) -> bool:
    """Whether something other than the forward of its class may decide what a module computes.

    That is a forward hook or forward pre-hook on the module or on all modules, or a forward of its own.

    Args:
        module: Any module.

    Returns:
        True for such a module.
    """
    hooks = (
        *(module._forward_hooks, module._forward_pre_hooks),
        *(torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks),
    )
    own = vars(module).keys() & {"forward", "_call_impl", "__call__"}
    return any(hooks) or bool(own) or getattr(module, "_compiled_call_impl", None) is not None
