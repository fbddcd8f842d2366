"""Attacks that raise the score of OOD images: an l-infinity ensemble, and l2 attacks on the smoothed score."""

import torch

from oodcert.attacks.apgd import apgd as auto_pgd
from oodcert.attacks.objective import mean_objective
from oodcert.attacks.pgd import decontrast, monotone_pgd
from oodcert.attacks.square import square as square_attack
from oodcert.attacks.steps import strongest
from oodcert.models.checks import checked_logits
from oodcert.models.wrappers import JointNetwork, noisy_parts, replayed_logits
from oodcert.runtime.keyed_noise import keyed_batch, keyed_noise, keyed_uniform

STEP = 0.1  # the first step of the monotone l-infinity attacks


def linf_ensemble(detector, images, ids, name, epsilon, *, apgd, pgd, square, draws, seed):
    """Images in ‖x' - x‖∞ ≤ epsilon with a high score, by every attack: dict from its name to images [N, C, H, W].

    apgd = {"iterations", "restarts"}: "apgd", Auto-PGD from uniform points of the ball (Croce and Hein 2020).
    pgd = {"iterations", "restarts"}: monotone PGD (Meinke et al. 2022) from decontrasted images ("decontrast"), from
    uniform points ("uniform") and from Gaussian noise of 1e-4 ("gaussian"), and for a joint network from the point that
    raises its discriminator most ("discriminator"), since its score is flat in floating point where p(i|x) is tiny.
    square = {"queries"}: "square", which needs no gradient. Each is the best of its restarts, per sample, in the order
    of the score (see mean_objective); the caller scores them all, the clean images included.

    A randomised network is attacked through its expected score over `draws` fixed noise draws (EOT), by Square too;
    randomness is keyed by (seed, name, id). With more restarts no attack gets weaker, nor with more iterations
    "decontrast", "uniform" and "gaussian"; in the others the schedule or the start depends on the budget.
    """
    shape, device = images.shape[1:], images.device

    def drawn(draw, purpose, count):
        return torch.from_numpy(keyed_batch(draw, seed, f"attack_linf/{purpose}/{name}", ids, count, shape)).to(device)

    if noisy_parts(detector.network):
        noise = drawn(keyed_noise, "eot", draws)

        def objective(points):
            return mean_objective(detector, replayed_logits(detector.network, points, noise))
    else:

        def objective(points):
            return mean_objective(detector, checked_logits(detector.network, points)[None])

    def monotone(score, start):
        return monotone_pgd(score, images, start, epsilon, iterations=pgd["iterations"], step=STEP)

    starts = pgd_starts(images, epsilon, drawn, pgd["restarts"])
    if isinstance(detector.network, JointNetwork):
        inside = detector.network.discriminator
        starts["discriminator"] = [monotone(lambda points: inside(points).reshape(-1), images)[0]]

    runs = {
        "apgd": [
            auto_pgd(objective, images, start, epsilon, iterations=apgd["iterations"])
            for start in apgd_starts(images, epsilon, drawn, apgd["restarts"])
        ],
        **{attack: [monotone(objective, start) for start in several] for attack, several in starts.items()},
        "square": [square_attack(objective, images, ids, f"attack_linf/square/{name}", epsilon, **square, seed=seed)],
    }
    return {attack: strongest(found)[0] for attack, found in runs.items()}


def apgd_starts(images, epsilon, drawn, restarts):
    """Where Auto-PGD begins in the l-infinity ball: `restarts` uniform points [N, C, H, W].

    drawn: callable (keyed_noise or keyed_uniform, purpose, count) -> [count, N, C, H, W].
    """
    return _uniform_points(images, epsilon, drawn(keyed_uniform, "apgd", restarts))


def pgd_starts(images, epsilon, drawn, restarts):
    """Where monotone PGD begins: dict from the start's name to points [N, C, H, W], one or `restarts` of them."""
    return {
        "decontrast": [decontrast(images, epsilon)],
        "uniform": _uniform_points(images, epsilon, drawn(keyed_uniform, "uniform", restarts)),
        "gaussian": images + 1e-4 * drawn(keyed_noise, "gaussian", restarts),
    }


def _uniform_points(images, epsilon, draws):
    return images + epsilon * (2 * draws - 1)


def smoothed_l2_attack(detector, images, ids, name, sigma, radius, start, *, iterations, restarts, draws, seed):
    """Images within ‖x' - x‖₂ ≤ radius that raise the smoothed score E s(x' + δ) (SmoothAdv: Salman et al. 2019).

    Per sample the best of Auto-PGD begun at `start` [N, C, H, W] and, `restarts` times, at Gaussian points in the ball;
    monotone PGD beside it found no more for twice the cost. The gradient is that of the mean score over `draws` fixed
    draws of δ ~ N(0, sigma² I), keyed by (seed, name, id). Returns [N, C, H, W].
    """
    shape, device = images.shape[1:], images.device

    def drawn(purpose, count):
        return torch.from_numpy(keyed_batch(keyed_noise, seed, f"attack_l2/{purpose}/{name}", ids, count, shape)).to(
            device
        )

    noise = sigma * drawn("eot", draws)

    def objective(points):
        logits = checked_logits(detector.network, (points + noise).flatten(0, 1))
        return mean_objective(detector, logits.unflatten(0, (draws, -1)))

    starts = [start]
    if restarts:
        starts += list(images + radius / images[0].numel() ** 0.5 * drawn("start", restarts))
    runs = [auto_pgd(objective, images, begin, radius, iterations=iterations, norm="l2") for begin in starts]
    return strongest(runs)[0]
