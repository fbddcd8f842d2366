"""Bounds at radii that were not certified, from those that were: without a network, and without new draws."""

from typing import Any

import numpy as np
import pandas as pd

from oodcert.certification.smoothing_bounds import gaussian_bounds, lipschitz_bounds
from oodcert.errors import InputError

FROM_ZERO = {"gaussian": gaussian_bounds, "lipschitz": lipschitz_bounds}  # whose bounds at R follow from those at 0


def at_radius(rows: pd.DataFrame, radius: float) -> pd.DataFrame:
    """Bounds at any radius, from rows at the certified radii.

    The gaussian and lipschitz bounds follow by their formula from those at R = 0, as certifying would compute them. The
    other bounds are those of the next larger certified radius, which hold at this one too. Beyond the largest they take
    their worst value, -inf and +inf.

    Args:
        rows: Evidence of `certify_l2`, or a table of `oodcert.certify`, of one bound and one sigma.
        radius: l2 radius, at least 0, in the pixel scale [0, 1].

    Returns:
        A row per image, with radius, lower and upper changed.

    Raises:
        InputError: The rows mix bounds or sigmas, the radius is negative, or rows at R = 0 are needed and missing.
    """
    bound, sigma = _only(rows, "bound"), _only(rows, "sigma")
    if not radius >= 0:
        raise InputError(f"Radius {radius!r}: give a length ≥ 0, in the pixel scale [0, 1].")
    if bound in FROM_ZERO:
        start = rows[rows["radius"] == 0]
        if start.empty:
            raise InputError(f"The rows of the {bound} bound have no radius 0: certify them with 0 in radii.")
        lower, upper = (side[:, 0] for side in FROM_ZERO[bound](start["lower"], start["upper"], sigma, [radius]))
        return start.assign(radius=radius, lower=lower, upper=upper)
    reached = rows.loc[rows["radius"] >= radius, "radius"]
    if reached.empty:
        return rows[rows["radius"] == rows["radius"].min()].assign(radius=radius, lower=-np.inf, upper=np.inf)
    return rows[rows["radius"] == reached.min()].assign(radius=radius)


def _only(rows: pd.DataFrame, column: str) -> Any:
    """The one value of a column."""
    values = rows[column].unique()
    if len(values) != 1:
        raise InputError(f"The rows mix {column} = {', '.join(map(str, values))}: pass the rows of one {column}.")
    return values[0]
