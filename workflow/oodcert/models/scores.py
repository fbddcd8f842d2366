"""The scores of detectors by name: higher = more in-distribution. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# logits [N, K] -> scores [N]
SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "msp": lambda logits: logits.softmax(1).amax(1),
    "energy": lambda logits: logits.logsumexp(1),
    "max_logit": lambda logits: logits.amax(1),
    "atom": lambda logits: -logits.log_softmax(1)[:, -1],
}
