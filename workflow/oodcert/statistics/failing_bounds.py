"""From the confidence of each bound to that of a metric: how many of N bounds may fail, and which do most harm.

Bounds that hold with probability ≥ 1 - alpha each say little of a metric over all of them: of 1000 bounds at alpha =
0.01 about ten fail, and one that fails can move a threshold. But of N independent bounds hardly more than a binomial
quantile fail at once. Metrics are then computed as if that many bounds knew nothing, namely those whose loss is worst.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtrc

from oodcert.errors import InputError

CONFIDENCE = 0.99  # of the metrics in tables, unless another one is asked for
NAMES = {"lower": "The ID table", "upper": "The OOD table"}


def most_failing(count: int, alpha: float, error: float) -> int:
    """The number of bounds that no more than fail, but with probability `error`.

    The failures of different images are independent, and each has a probability of at most alpha. So their number is
    at most Binomial(count, alpha), in distribution.

    Args:
        count: number of bounds.
        alpha: error probability of each, at most.
        error: error probability of the statement.

    Returns:
        The smallest b in 0 .. count with P(Binomial(count, alpha) > b) ≤ error.
    """
    return int(np.argmax(bdtrc(np.arange(count + 1), count, alpha) <= error))


def least_favourable(bounds: ArrayLike, failing: int, side: str) -> NDArray[np.float64]:
    """Bounds with the worst choice of so many failing ones replaced by their worst value.

    The highest ID lower bounds become -inf, the lowest OOD upper bounds +inf. No other choice is worse: let
    l_(1) ≥ … ≥ l_(N) be the ID bounds. Whichever b of them are lost, the j-th highest of the others is at least
    l_(j + b), for at most b of the j + b highest are lost. It is l_(j + b) if the b highest are lost. So the true
    scores, sorted, are nowhere below the sorted result, whichever b bounds fail. The same holds of the OOD side with
    the signs reversed. AUC, AUPR (with ties against the detector) and FPR95 depend on both sides' sorted scores alone,
    and get no better where an ID score falls or an OOD score rises. So each metric of the result is no better than that
    of the true scores, if no more bounds than these fail.

    For FPR95 this is: the threshold accepts ceil(0.95 N) + b of the ID bounds, and as many OOD images more as may fail
    are accepted. AUC falls by no more than the failing shares of both sides. The AUPR is the mean of j / (j + a_j) over
    the N - b ID bounds that are left, of which the j-th highest is reached by a_j OOD bounds, those that fail included;
    each of the b others, below every OOD image, adds its rank / (its rank + M).

    Args:
        bounds: of the ID scores or the OOD scores [N].
        failing: how many of them fail, from 0 to N.
        side: "lower" (ID) or "upper" (OOD).

    Returns:
        The bounds [N], in the order given.
    """
    sign = 1.0 if side == "upper" else -1.0
    worst = np.array(bounds, np.float64)
    worst[np.argsort(sign * worst, kind="stable")[:failing]] = sign * np.inf
    return worst


def table_error(confidence: float, sets: int) -> float:
    """The error probability of each table: of one of ID images and one of each OOD set, that hold at once.

    Args:
        confidence: of the metrics of all sets together.
        sets: number of OOD sets.

    Returns:
        (1 - confidence) / (1 + sets), by the union bound.

    Raises:
        InputError: if the confidence is no number between 0 and 1, or sets no whole number of at least 1.
    """
    if isinstance(confidence, bool) or not isinstance(confidence, Real) or not 0 < confidence < 1:
        raise InputError(
            f"confidence = {confidence!r}: it lies between 0 and 1, as 0.99 does. None gives metrics without one."
        )
    if isinstance(sets, bool) or not isinstance(sets, (int, np.integer)) or sets < 1:
        raise InputError(f"sets = {sets!r}: give the number of OOD sets whose metrics are to hold at once, at least 1.")
    return (1 - float(confidence)) / (1 + int(sets))


def bounds_at_confidence(rows: pd.DataFrame, side: str, error: float | None) -> NDArray[np.float64]:
    """The bounds of one side, kind and radius that metrics with a confidence are computed of.

    Args:
        rows: of a table of `oodcert.certify`, one of each image, at one bound and radius.
        side: "lower" for ID images, or "upper" for OOD images.
        error: error probability of the side as a whole, by which some bounds take their worst value; None: none do.

    Returns:
        The bounds [N], in the order of the rows.

    Raises:
        InputError: with an error, if alpha is unknown or an image has several rows.
    """
    bounds = rows[side].to_numpy(np.float64)
    if error is None:
        return bounds
    what = NAMES[side]
    for key in ("image", "sample"):
        if key in rows and rows[key].duplicated().any():
            raise InputError(
                f"{what} has several rows of {key} {rows[key][rows[key].duplicated()].iloc[0]!r} at one bound and "
                "radius. Failures of one image, or under the same noise, are not independent: pass one row an image, "
                "and the tables of several sets one at a time."
            )
    return least_favourable(bounds, most_failing(len(rows), largest_alpha(rows, what), error), side)


def largest_alpha(rows: pd.DataFrame, what: str) -> float:
    """The largest alpha of a table of `oodcert.certify`.

    Args:
        rows: of the table.
        what: the table's name in messages.

    Returns:
        The alpha.

    Raises:
        InputError: if a row has no alpha, or none between 0 and 1.
    """
    remedy = "Keep the column alpha of `oodcert.certify`, or add it: table.assign(alpha=...)."
    if "alpha" not in rows:
        raise InputError(f"{what} has no column alpha, the error probability of each of its bounds. {remedy}")
    values: NDArray[Any] = pd.to_numeric(rows["alpha"], errors="coerce").to_numpy(np.float64)
    wrong = ~((values > 0) & (values < 1))
    if wrong.any():
        raise InputError(f"{what} has alpha = {rows['alpha'][wrong].iloc[0]!r}: it lies between 0 and 1. {remedy}")
    return float(values.max())
