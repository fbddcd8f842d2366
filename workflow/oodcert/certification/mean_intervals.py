"""Finite-sample bounds on the mean of a variable in [0, 1]. Each side is one-sided at level 1 - alpha."""

import numpy as np

from oodcert.errors import InputError

ROUNDING = 1e-9
LARGEST_BET = 0.75  # below 1, so that no draw can take all of the capital
NEWTON_STEPS = 20  # at most; about four are needed


BoundPair = tuple[np.ndarray, np.ndarray]  # lower and upper bounds


def mean_bounds(kind: str, draws: np.ndarray, alpha: float) -> BoundPair:
    """Bounds of one kind.

    Args:
        kind: "hoeffding", "bernstein" or "betting".
        draws: [..., n] in the order they were drawn, in [0, 1]. Those beyond it by no more than rounding (1e-9) are
            clipped.
        alpha: Error probability of each side.

    Returns:
        (lower, upper) [...].

    Raises:
        InputError: The kind is unknown, or draws lie outside [0, 1].
    """
    if kind not in MEANS:
        raise InputError(f"Unknown mean bound {kind!r}: use {', '.join(MEANS)}.")
    if not (draws.min() >= -ROUNDING and draws.max() <= 1 + ROUNDING):
        raise InputError(
            f"A bound on the mean needs scores in [0, 1], these span [{draws.min()!s}, {draws.max()!s}]: use the "
            "percentile or the vote bound, which need no range, or a score in [0, 1] such as msp."
        )
    return MEANS[kind](np.clip(draws, 0, 1), alpha)


def hoeffding_bounds(draws: np.ndarray, alpha: float) -> BoundPair:
    """mean ± sqrt(log(1/alpha) / 2n).

    Args:
        draws: [..., n] in [0, 1].
        alpha: Error probability of each side.

    Returns:
        (lower, upper) [...], clipped to [0, 1].

    Source: Hoeffding 1963, https://doi.org/10.1080/01621459.1963.10500830
    """
    mean, n = draws.mean(-1, dtype=np.float64), draws.shape[-1]
    width = np.sqrt(np.log(1 / alpha) / (2 * n))
    return np.clip(mean - width, 0, 1), np.clip(mean + width, 0, 1)


def bernstein_bounds(draws: np.ndarray, alpha: float) -> BoundPair:
    """mean ± (sqrt(2 V log(2/alpha) / n) + 7 log(2/alpha) / 3(n - 1)), V the sample variance.

    For n = 1 it says nothing: (0, 1).

    Args:
        draws: [..., n] in [0, 1].
        alpha: Error probability of each side.

    Returns:
        (lower, upper) [...], clipped to [0, 1].

    Source: Maurer and Pontil 2009, Theorem 4, https://arxiv.org/abs/0907.3740
    """
    mean, n = draws.mean(-1, dtype=np.float64), draws.shape[-1]
    if n == 1:
        return np.zeros_like(mean), np.ones_like(mean)
    log = np.log(2 / alpha)
    width = np.sqrt(2 * draws.var(-1, ddof=1, dtype=np.float64) * log / n) + 7 * log / (3 * (n - 1))
    return np.clip(mean - width, 0, 1), np.clip(mean + width, 0, 1)


def betting_bounds(draws: np.ndarray, alpha: float) -> BoundPair:
    """The bounds of a gambler who bets against every other mean.

    A bet λ_i ≥ 0 depends on the earlier draws alone. The capital K(m) = Π (1 + λ_i (m - X_i)) is then a nonnegative
    martingale of expectation one where m is the mean. K(m) rises with m. So by Markov's inequality the mean lies below
    the root of K(m) = 1/alpha with probability ≥ 1 - alpha. The bets are the predictable plug-in for n draws.

    Args:
        draws: [..., n] in [0, 1], in the order they were drawn.
        alpha: Error probability of each side.

    Returns:
        (lower, upper) [...].

    Source: Waudby-Smith and Ramdas 2024, sections 4.3 and B.3, https://arxiv.org/abs/2010.09686
    """
    return 1 - _betting_upper(1 - draws, alpha), _betting_upper(draws, alpha)


def _betting_upper(draws: np.ndarray, alpha: float) -> np.ndarray:
    """The upper bound [...]: the root of K(m) = 1/alpha, from above."""
    draws, goal = np.asarray(draws, np.float64), np.log(1 / alpha)
    count = np.arange(2, draws.shape[-1] + 2)
    mean = (0.5 + draws.cumsum(-1)) / count
    variance = (0.25 + ((draws - mean) ** 2).cumsum(-1)) / count
    earlier = np.concatenate([np.full((*draws.shape[:-1], 1), 0.25), variance[..., :-1]], axis=-1)
    bets = np.minimum(np.sqrt(2 * goal / (draws.shape[-1] * earlier)), LARGEST_BET)

    def capital(mean: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """log K(mean) and its slope, [..., 1] each."""
        growth = 1 + bets * (mean - draws)
        return np.log(growth).sum(-1, keepdims=True), (bets / growth).sum(-1, keepdims=True)

    # log K is concave and rises, so Newton's steps stay left of the root once they are; the slope at 1 bounds the rest
    root = draws.mean(-1, keepdims=True)
    root = np.where(capital(root)[0] <= goal, root, 0.0)
    for _ in range(NEWTON_STEPS):
        reached, slope = capital(root)
        if (goal - reached <= 1e-9).all():
            break
        root = np.minimum(root + np.maximum(goal - reached, 0) / slope, 1)
    missing = np.maximum(goal - capital(root)[0], 0)
    return np.minimum(root + missing / capital(1.0)[1], 1)[..., 0]


MEANS = {"hoeffding": hoeffding_bounds, "bernstein": bernstein_bounds, "betting": betting_bounds}
