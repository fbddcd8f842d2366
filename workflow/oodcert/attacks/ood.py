"""Attacks that raise the score of OOD images: an l-infinity ensemble, and l2 attacks on the smoothed score."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from oodcert.attacks.apgd import apgd as auto_pgd
from oodcert.attacks.objective import mean_objective, smoothed_objective
from oodcert.attacks.pgd import decontrast, monotone_pgd
from oodcert.attacks.square import square as square_attack
from oodcert.attacks.steps import Objective, Run, strongest
from oodcert.models.checks import checked_logits
from oodcert.models.detector import Detector
from oodcert.models.wrappers import JointNetwork, noisy_modules, replayed_logits
from oodcert.runtime.keyed_noise import Draw, keyed_batch, keyed_noise, keyed_uniform

STEP = 0.1  # the first step of the monotone l-infinity attacks

Drawn = Callable[[Draw, str, int], Tensor]  # (keyed_noise or keyed_uniform, purpose, count) -> [count, N, C, H, W]


def linf_ensemble(
    detector: Detector,
    images: Tensor,
    ids: Sequence[int],
    name: str,
    epsilon: float,
    *,
    apgd: Mapping[str, int],
    pgd: Mapping[str, int],
    square: Mapping[str, int],
    draws: int,
    seed: int,
) -> dict[str, Tensor]:
    """Images in ‖x' - x‖∞ ≤ epsilon with a high score, by every attack.

    The attacks are

    - "apgd": Auto-PGD from uniform points of the ball;
    - "decontrast", "uniform", "gaussian": monotone PGD from decontrasted images, from uniform points, and from
      Gaussian noise of 1e-4;
    - "discriminator", for a joint network alone: monotone PGD from the point that raises the discriminator most, since
      the joint score is flat in floating point where p(i|x) is tiny;
    - "square": Square, which needs no gradient.

    Each is the best of its restarts, per sample, in the order of the score (see mean_objective). The caller scores them
    all, the clean images included. A randomised network is attacked through its expected score over fixed noise draws
    (EOT), by Square too. Randomness is keyed by (seed, name, id). With more restarts no attack gets weaker, nor with
    more iterations "decontrast", "uniform" and "gaussian"; in the others the schedule or the start depends on the
    budget.

    Args:
        detector: Attacked through its score.
        images: OOD images [N, C, H, W] in [0, 1].
        ids: Of each image, N integers.
        name: Of the images' set.
        epsilon: Radius of the balls, in the [0, 1] pixel scale.
        apgd: "iterations" and "restarts" of Auto-PGD.
        pgd: "iterations" and "restarts" of monotone PGD.
        square: "queries" of Square.
        draws: Noise draws, where the network is randomised.
        seed: Of the run.

    Returns:
        Name of the attack -> images [N, C, H, W] in [0, 1].

    Raises:
        InputError: The score or its gradient becomes NaN.

    Source: Croce and Hein (2020), https://arxiv.org/abs/2003.01690; Meinke et al. (2022),
        https://arxiv.org/abs/2106.04260; Andriushchenko et al. (2020), https://arxiv.org/abs/1912.00049
    """
    shape, device = images.shape[1:], images.device

    def drawn(draw: Draw, purpose: str, count: int) -> Tensor:
        return torch.from_numpy(keyed_batch(draw, seed, f"attack_linf/{purpose}/{name}", ids, count, shape)).to(device)

    def monotone(score: Objective, start: Tensor) -> Run:
        return monotone_pgd(score, images, start, epsilon, iterations=pgd["iterations"], step=STEP)

    noise = drawn(keyed_noise, "eot", draws) if noisy_modules(detector.network) else None
    objective = _expected_score(detector, noise)
    starts = pgd_starts(images, epsilon, drawn, pgd["restarts"])
    if isinstance(detector.network, JointNetwork):
        discriminator = detector.network.discriminator
        starts["discriminator"] = [monotone(lambda points: discriminator(points).reshape(-1), images)[0]]

    runs = {
        "apgd": [
            auto_pgd(objective, images, start, epsilon, iterations=apgd["iterations"])
            for start in apgd_starts(images, epsilon, drawn, apgd["restarts"])
        ],
        **{attack: [monotone(objective, start) for start in several] for attack, several in starts.items()},
        "square": [square_attack(objective, images, ids, f"attack_linf/square/{name}", epsilon, **square, seed=seed)],
    }
    return {attack: strongest(results)[0] for attack, results in runs.items()}


def _expected_score(detector: Detector, noise: Tensor | None) -> Objective:
    """The detector's mean objective over noise draws [m, N, C, H, W], or for a deterministic network over one pass."""
    if noise is None:
        return lambda points: mean_objective(detector, checked_logits(detector.network, points.clone())[None])
    return lambda points: mean_objective(detector, replayed_logits(detector.network, points, noise))


def apgd_starts(images: Tensor, epsilon: float, drawn: Drawn, restarts: int) -> Sequence[Tensor]:
    """Where Auto-PGD begins in the l-infinity ball: uniform points.

    Args:
        images: [N, C, H, W] in [0, 1], the centres of the balls.
        epsilon: Radius of the balls, in the [0, 1] pixel scale.
        drawn: Draws the random numbers.
        restarts: Number of points per image.

    Returns:
        `restarts` points [N, C, H, W].
    """
    return _uniform_points(images, epsilon, drawn(keyed_uniform, "apgd", restarts))


def pgd_starts(images: Tensor, epsilon: float, drawn: Drawn, restarts: int) -> dict[str, Sequence[Tensor]]:
    """Where monotone PGD begins in the l-infinity ball.

    Args:
        images: [N, C, H, W] in [0, 1], the centres of the balls.
        epsilon: Radius of the balls, in the [0, 1] pixel scale.
        drawn: Draws the random numbers.
        restarts: Number of random points per image and kind of start.

    Returns:
        Name of the start -> points [N, C, H, W]: one for "decontrast", `restarts` for "uniform" and "gaussian".
    """
    return {
        "decontrast": [decontrast(images, epsilon)],
        "uniform": _uniform_points(images, epsilon, drawn(keyed_uniform, "uniform", restarts)),
        "gaussian": list(images + 1e-4 * drawn(keyed_noise, "gaussian", restarts)),
    }


def _uniform_points(images: Tensor, epsilon: float, draws: Tensor) -> list[Tensor]:
    return list(images + epsilon * (2 * draws - 1))


def smoothed_l2_attack(
    detector: Detector,
    images: Tensor,
    ids: Sequence[int],
    name: str,
    sigma: float,
    radius: float,
    start: Tensor,
    *,
    iterations: int,
    restarts: int,
    draws: int,
    seed: int,
) -> Tensor:
    """Images within ‖x' - x‖₂ ≤ radius that raise the median and the mean of s(x' + δ), δ ~ N(0, sigma² I).

    Per sample it is the best of Auto-PGD begun at `start` and, `restarts` times, at Gaussian points in the ball.
    Monotone PGD beside it gained nothing for twice the cost. The gradient is that of smoothed_objective over fixed
    draws of δ, keyed by (seed, name, id). More draws gain more than more iterations: with few, the attack finds points
    that suit those draws alone.

    Args:
        detector: Attacked through its score; its network sees the noisy images.
        images: OOD images [N, C, H, W] in [0, 1].
        ids: Of each image, N integers.
        name: Of the images' set.
        sigma: Standard deviation of the noise, in the [0, 1] pixel scale.
        radius: Of the balls, in the [0, 1] pixel scale.
        start: [N, C, H, W], where the first run begins.
        iterations: Steps of each run.
        restarts: Number of further runs.
        draws: Noise draws, m.
        seed: Of the run.

    Returns:
        Images [N, C, H, W] in [0, 1].

    Raises:
        InputError: The score or its gradient becomes NaN.

    Source: Salman et al. (2019), SmoothAdv, https://arxiv.org/abs/1906.04584
    """
    shape, device = images.shape[1:], images.device

    def drawn(purpose: str, count: int) -> Tensor:
        noise = keyed_batch(keyed_noise, seed, f"attack_l2/{purpose}/{name}", ids, count, shape)
        return torch.from_numpy(noise).to(device)

    noise = sigma * drawn("eot", draws)

    def objective(points: Tensor) -> Tensor:
        logits = checked_logits(detector.network, (points + noise).flatten(0, 1))
        return smoothed_objective(detector, logits.unflatten(0, (draws, -1)))

    starts = [start]
    if restarts:
        starts += list(images + radius / images[0].numel() ** 0.5 * drawn("start", restarts))
    runs = [auto_pgd(objective, images, begin, radius, iterations=iterations, norm="l2") for begin in starts]
    return strongest(runs)[0]
