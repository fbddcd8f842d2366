"""The logits among what a network returns."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from oodcert.errors import InputError

TWO_LOGITS = (
    "two classes need two logits: return torch.cat([torch.zeros_like(z), z], 1) of the one logit z [N, 1], or make a "
    "Detector with a score of that logit, such as lambda logits: logits[:, 0]"
)


def logits_of(output: Any, name: str) -> Tensor:
    """The logits among what a network returns.

    They are the tensor itself; what has the name `logits` in a dict, a dataclass, a named tuple or another object; and
    of a plain tuple or list the one tensor with two dimensions.

    Args:
        output: What the network returned.
        name: Of the network; the message names it.

    Returns:
        The tensor, of any shape.

    Raises:
        InputError: There are no logits, or no single ones.
    """
    if isinstance(output, Tensor):
        return output
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(named, Tensor):
        return named
    if isinstance(output, tuple | list) and not hasattr(output, "_fields"):
        tables = [one for one in output if isinstance(one, Tensor) and one.ndim == 2]
        if len(tables) == 1:
            return tables[0]
        raise InputError(
            f"{name} gave a {type(output).__name__} of {len(output)}, of which {len(tables)} are tensors [N, K]: "
            "logits [N, K] needed. Wrap the network in an nn.Module that returns them alone."
        )
    held = f" of {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
    raise InputError(
        f"{name} gave {type(output).__name__}{held}: logits [N, K] needed, or an object or dict that has them as "
        "`logits`. Wrap the network in an nn.Module that returns them."
    )


def check_logits(logits: Tensor, count: int, name: str) -> None:
    """Checks the form of logits: floats [N, K].

    Args:
        logits: What may be logits.
        count: N.
        name: Of the network; the message names it.

    Raises:
        InputError: They have another shape or type.
    """
    if logits.ndim != 2 or logits.shape[0] != count or logits.shape[1] == 0:
        more = f" Where there is one output, {TWO_LOGITS}." if tuple(logits.shape) == (count,) else ""
        raise InputError(f"{name} gave {tuple(logits.shape)} for {count} images: logits [N, K] needed.{more}")
    if not logits.is_floating_point():
        raise InputError(f"{name} gave {logits.dtype}: logits [N, K] of real floating-point numbers are needed.")


def are_probabilities(logits: Tensor) -> bool:
    """Whether every row is a distribution: no value below 0, and a sum of 1."""
    off = (logits.double().sum(1) - 1).abs()
    return logits.shape[1] > 1 and bool((logits >= 0).all() and (off < 16 * torch.finfo(logits.dtype).eps).all())
