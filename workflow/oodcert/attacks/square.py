"""Square Attack (Andriushchenko et al. 2020) on any score: random search, by queries alone."""

import numpy as np
import torch

from oodcert.attacks.steps import bounds, per_sample, refuse_nan
from oodcert.runtime.keyed_noise import keyed_batch, keyed_uniform

SHARE = 0.8  # of the image's area that the first squares cover
HALVINGS = np.array([10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]) / 10_000  # of the queries, when it is halved


def square(objective, images, ids, name, epsilon, *, queries, seed):
    """Raises objective within ‖x' - x‖∞ ≤ epsilon, x' in [0, 1], by random search: (images, values [N]).

    objective: callable [N, C, H, W] -> [N], the same function at every call; it needs no gradient, so this attack
    shows where a network hides its gradient. The first of the `queries` evaluations is at vertical stripes of
    ± epsilon; each later one paints a random square of every image with ± epsilon per channel, and stays where it
    raises the value. The squares' size falls as in the authors' code, scaled to the number of queries; a square that
    would change nothing takes the other signs. Randomness is keyed by (seed, name, id), so batches and order never
    change a result. Raises InputError if the objective becomes NaN.
    """
    _, channels, height, width = images.shape
    device, low, high = images.device, *bounds(images, epsilon)
    row = torch.arange(height, device=device).reshape(1, 1, -1, 1)
    column = torch.arange(width, device=device).reshape(1, 1, 1, -1)

    def drawn(purpose, count, shape):
        return keyed_batch(keyed_uniform, seed, f"{name}/{purpose}", ids, count, shape)

    def query(points):
        with torch.inference_mode():
            value = objective(points)
        sums.append(value.sum())
        return value

    sums = []
    stripes = torch.from_numpy(drawn("stripes", 1, (channels, 1, width))[0]).to(device)
    best = torch.where(stripes < 0.5, low, high)
    value = query(best)

    sides = square_sides(queries, height, width)
    squares = drawn("squares", queries, (2 + channels,))[1:]
    corners = squares[..., :2] * (np.array([height, width]) + 1.0 - sides[:, None])[:, None]
    corners = torch.from_numpy(corners.astype(int)).to(device)
    signs = torch.from_numpy(squares[..., 2:] < 0.5).to(device)
    for side, corner, sign in zip(sides.tolist(), corners, signs, strict=True):
        top, left, up = per_sample(corner[:, 0]), per_sample(corner[:, 1]), sign[..., None, None]
        inside = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
        unchanged = (~inside | (best == torch.where(up, high, low))).flatten(1).all(1)
        trial = torch.where(inside, torch.where(up ^ per_sample(unchanged), high, low), best)
        trial_value = query(trial)
        best = torch.where(per_sample(trial_value > value), trial, best)
        value = torch.maximum(trial_value, value)
    refuse_nan(sums)
    return best, value


def square_sides(queries, height, width):
    """Side lengths of the squares of all queries but the first, which has none: int [queries - 1]."""
    done = np.arange(queries - 1) / queries
    share = SHARE / 2.0 ** np.searchsorted(HALVINGS, done)
    return np.clip(np.rint(np.sqrt(share * height * width)), 1, min(height, width)).astype(int)
