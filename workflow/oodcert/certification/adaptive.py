"""Adaptive sampling: when to look at the draws of an image, at which level, and when to stop."""

import numpy as np

from oodcert.errors import InputError

FIRST, RATIO = 128, 1.42  # draws of the first stage at least; growth from stage to stage, before rounding
PILOT_IMAGES, PILOT_DRAWS = 200, FIRST  # ID images, at most, and draws of each, that foretell a threshold
PILOT_SHARE = 0.9  # of their bounds that reach it: three standard errors of 200 images below 95 %


def alpha_spending_schedule(sampling, n, alpha):
    """(numbers of draws [K], levels [K]) at which bounds are computed: one stage of n, or several that end with n.

    Adaptive sampling spends alpha on its stages in proportion to their draws. By the union bound all stages' bounds
    hold at once with probability ≥ 1 - alpha, so the reported one does, whatever decides where sampling stops. Raises
    InputError on another `sampling` than "fixed" or "adaptive", on n < 1 and on an alpha outside (0, 1).
    """
    if sampling not in ("fixed", "adaptive"):
        raise InputError(f"sampling = {sampling!r}: use 'fixed' or 'adaptive'.")
    if not (n >= 1 and n == int(n) and 0 < alpha < 1):
        raise InputError(f"n = {n}, alpha = {alpha}: a whole number of draws is needed, and an alpha between 0 and 1.")
    draws = [int(n)]
    while sampling == "adaptive" and draws[0] / RATIO >= FIRST:
        draws.insert(0, FIRST * round(draws[0] / RATIO / FIRST))
    return draws, [alpha * drawn / sum(draws) for drawn in draws]


def is_settled(now, final, width, against=None, ceiling=None):
    """Whether no bound of one image would change by more than `width` from this stage to the last one.

    now, final: kind -> (estimate, lower [R], upper [R]), at this stage and as foreseen for the last one. against:
    kind -> sorted values [M] that the upper bounds, which alone are asked for, are compared with; a change is then one
    of the share of these values that a bound reaches. ceiling: kind -> the value up to which the lower bounds, which
    alone are asked for, matter.
    """
    for kind in now:
        before, after = (_asked(bounds[kind], kind, against, ceiling) for bounds in (now, final))
        with np.errstate(invalid="ignore"):  # both infinite: equal
            if not ((before == after) | (abs(before - after) <= width)).all():
                return False
    return True


def _asked(bounds, kind, against, ceiling):
    _, lower, upper = bounds
    if against is not None:
        return np.searchsorted(against[kind], upper, "right") / len(against[kind])
    return np.stack([lower, upper]) if ceiling is None else np.minimum(lower, ceiling[kind])
