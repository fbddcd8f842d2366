"""Adaptive sampling: when the draws of an image are looked at, at which level, and when they are enough."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from oodcert.errors import InputError

if TYPE_CHECKING:
    from oodcert.certification.smoothing_bounds import ScoreBounds

FIRST_LOOK, GROWTH = 128, 1.42  # draws at the first look, at least; growth from look to look, before rounding
PILOT_IMAGES, PILOT_DRAWS = 200, FIRST_LOOK  # ID images, at most, and draws of each, that foretell a threshold
PILOT_SHARE = 0.9  # of their bounds that reach it: three standard errors of 200 images below 95 %


def alpha_spending_schedule(sampling: str, n: int, alpha: float) -> tuple[list[int], list[float]]:
    """When bounds are computed, and at which level.

    Fixed sampling looks at an image once, after n draws. Adaptive sampling looks several times and spends alpha on its
    looks in proportion to their draws. By the union bound the bounds of all looks hold at once with probability
    ≥ 1 - alpha. So the reported bound does too, whatever decides where sampling stops.

    Args:
        sampling: "fixed" or "adaptive".
        n: The largest number of draws, at least 1.
        alpha: Error probability of the reported bound, in (0, 1).

    Returns:
        Numbers of draws [K], ascending up to n, and the levels [K] that belong to them.

    Raises:
        InputError: `sampling`, n or alpha is another one.
    """
    if sampling not in ("fixed", "adaptive"):
        raise InputError(f"sampling = {sampling!r}: use 'fixed' or 'adaptive'.")
    if not (n >= 1 and n == int(n) and 0 < alpha < 1):
        raise InputError(f"n = {n}, alpha = {alpha}: a whole number of draws is needed, and an alpha between 0 and 1.")
    draws = [int(n)]
    while sampling == "adaptive" and draws[0] / GROWTH >= FIRST_LOOK:
        draws.insert(0, FIRST_LOOK * round(draws[0] / GROWTH / FIRST_LOOK))
    return draws, [alpha * drawn / sum(draws) for drawn in draws]


@dataclass(frozen=True)
class StoppingRule:
    """When the draws of an image are looked at, and when they are enough.

    Attributes:
        draws: Numbers of draws [K] at which an image is looked at (see `alpha_spending_schedule`).
        levels: Error probabilities [K] of a bound computed at each look.
        tolerance: By how much a bound may still change from the present look to the last one.
        decision_thresholds: Kind of bound -> sorted values [M]. Only upper bounds matter then, and of them only the
            share of these values that they reach. `tolerance` is a change of that share.
        lower_bound_caps: Kind of bound -> one value [1]. Only lower bounds matter then, and only up to this value.
    """

    draws: Sequence[int]
    levels: Sequence[float]
    tolerance: float = 0.02
    decision_thresholds: Mapping[str, np.ndarray] | None = None
    lower_bound_caps: Mapping[str, np.ndarray] | None = None

    def level(self, drawn: int) -> float:
        """The error probability of a bound that is computed from this many draws, one of `draws`."""
        return self.levels[self.draws.index(drawn)]

    def forecasts(self, draws: np.ndarray) -> Iterator[np.ndarray]:
        """What all draws [n] would be if they went on like the first half of these, or like the second half."""
        return (np.resize(half, self.draws[-1]) for half in np.array_split(draws, 2))

    def is_converged(self, kind: str, now: ScoreBounds, forecasts: Iterable[ScoreBounds], unit: float = 1.0) -> bool:
        """Whether further draws would change the bounds of one image by no more than the tolerance.

        Args:
            kind: The kind of bound.
            now: The bounds at the present look.
            forecasts: The bounds at the last look, as foreseen.
            unit: What the tolerance is a multiple of.

        Returns:
            Whether the sampling of this image may stop.
        """
        present = self._compared(kind, now)
        return all(_within(present, self._compared(kind, final), self.tolerance * unit) for final in forecasts)

    def _compared(self, kind: str, bounds: ScoreBounds) -> np.ndarray:
        """What must not change any more of the bounds of one kind."""
        if self.decision_thresholds is not None:
            values = self.decision_thresholds[kind]
            return np.searchsorted(values, bounds.upper, "right") / len(values)
        if self.lower_bound_caps is not None:
            return np.minimum(bounds.lower, self.lower_bound_caps[kind])
        return np.stack([bounds.lower, bounds.upper])


def _within(before: np.ndarray, after: np.ndarray, tolerance: float) -> bool:
    with np.errstate(invalid="ignore"):  # both infinite: equal
        return bool(((before == after) | (abs(before - after) <= tolerance)).all())
