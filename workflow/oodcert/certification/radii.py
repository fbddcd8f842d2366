"""Bounds at radii that were not certified, from those that were: without a network, and without new draws."""

import numpy as np

from oodcert.certification.smoothing_bounds import gaussian_bounds, lipschitz_bounds
from oodcert.errors import InputError

FROM_ZERO = {"gaussian": gaussian_bounds, "lipschitz": lipschitz_bounds}  # whose bounds at R follow from those at 0


def at_radius(rows, radius):
    """The rows of one bound and sigma, of `certify_l2` evidence or of `oodcert.certify`, at any radius ≥ 0.

    For the gaussian and lipschitz bounds by their formula from the bounds at R = 0, as certifying would. The others
    take the next larger certified radius, whose bounds hold at this one too, and beyond the largest their worst value,
    -inf and +inf. Returns a row per image: radius, lower and upper changed. Raises InputError on a mixture of bounds or
    sigmas, on a negative radius, and where R = 0 is missing.
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


def _only(rows, column):
    found = rows[column].unique()
    if len(found) != 1:
        raise InputError(f"The rows mix {column} = {', '.join(map(str, found))}: pass the rows of one {column}.")
    return found[0]
