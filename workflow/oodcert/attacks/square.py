"""Square Attack (Andriushchenko et al. 2020) on any score: random search, by queries alone."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oodcert.attacks.steps import Objective, Run, bounds, per_sample, refuse_nan
from oodcert.runtime.keyed_noise import keyed_batch, keyed_uniform

SHARE = 0.8  # of the image's area that the first squares cover
HALVINGS = np.array([10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]) / 10_000  # of the queries, when it is halved


def square(
    objective: Objective,
    images: Tensor,
    ids: Sequence[int],
    name: str,
    epsilon: float,
    *,
    queries: int,
    seed: int,
) -> Run:
    """Raises an objective within ‖x' - x‖∞ ≤ epsilon, x' in [0, 1], by random search.

    It needs no gradient, so this attack shows where a network hides its gradient. The first query is at vertical
    stripes of ± epsilon. Each later one paints a random square of every image with ± epsilon per channel, which stays
    where it raises the value. The squares' size falls as in the authors' code, scaled to the number of queries. A
    square that would change nothing takes the other signs. Randomness is keyed by (seed, name, id), so batches and
    order never change a result.

    Args:
        objective: The same function at every call.
        images: [N, C, H, W] in [0, 1], the centres of the balls.
        ids: Of each image, N integers.
        name: Of the images' set and the attack.
        epsilon: Radius of the balls, in the [0, 1] pixel scale.
        queries: How often the objective is evaluated.
        seed: Of the run.

    Returns:
        The images [N, C, H, W] and their values [N].

    Raises:
        InputError: The objective becomes NaN.

    Source: Andriushchenko et al. (2020), https://arxiv.org/abs/1912.00049
    """
    _, channels, height, width = images.shape
    device, low, high = images.device, *bounds(images, epsilon)
    row = torch.arange(height, device=device).reshape(1, 1, -1, 1)
    column = torch.arange(width, device=device).reshape(1, 1, 1, -1)

    def drawn(purpose: str, count: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return keyed_batch(keyed_uniform, seed, f"{name}/{purpose}", ids, count, shape)

    def query(points: Tensor) -> Tensor:
        with torch.inference_mode():
            value = objective(points)
        sums.append(value.sum())
        return value

    sums: list[Tensor] = []
    stripes = torch.from_numpy(drawn("stripes", 1, (channels, 1, width))[0]).to(device)
    best = torch.where(stripes < 0.5, low, high)
    value = query(best)

    sides = square_sides(queries, height, width)
    squares = drawn("squares", queries, (2 + channels,))[1:]
    places = squares[..., :2] * (np.array([height, width]) + 1.0 - sides[:, None])[:, None]
    corners = torch.from_numpy(places.astype(int)).to(device)
    signs = torch.from_numpy(squares[..., 2:] < 0.5).to(device)
    for side, corner, sign in zip(sides.tolist(), corners, signs, strict=True):
        top, left, up = per_sample(corner[:, 0]), per_sample(corner[:, 1]), sign[..., None, None]
        covered = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
        unchanged = (~covered | (best == torch.where(up, high, low))).flatten(1).all(1)
        trial = torch.where(covered, torch.where(up ^ per_sample(unchanged), high, low), best)
        trial_value = query(trial)
        best = torch.where(per_sample(trial_value > value), trial, best)
        value = torch.maximum(trial_value, value)
    refuse_nan(sums)
    return best, value


def square_sides(queries: int, height: int, width: int) -> NDArray[np.int64]:
    """The side lengths of the squares.

    Args:
        queries: How often the objective is evaluated.
        height: Of the images, in pixels.
        width: Of the images, in pixels.

    Returns:
        In pixels, [queries - 1]: the first query has no square.

    Source: Andriushchenko et al. (2020), section 3, https://arxiv.org/abs/1912.00049
    """
    done = np.arange(queries - 1) / queries
    share = SHARE / 2.0 ** np.searchsorted(HALVINGS, done)
    return np.clip(np.rint(np.sqrt(share * height * width)), 1, min(height, width)).astype(int)
