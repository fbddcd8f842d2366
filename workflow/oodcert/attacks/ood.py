"""Attacks that raise the score of OOD images: an l-infinity ensemble, and l2 attacks on the smoothed score."""

from functools import partial

import torch

from oodcert.attacks.pgd import decontrast, monotone_pgd
from oodcert.detector import JointNetwork, noisy_parts, replayed_logits
from oodcert.rng import batch_draws, normal_draws, uniform_draws

STEP = 0.1  # the first step of the l-infinity attacks


def expected_score(detector, images, noise):
    """Mean score [N] of a randomised detector over the noise draws [m, N, C, H, W]."""
    logits = replayed_logits(detector.network, images, noise)
    return detector.score_of(logits.flatten(0, 1)).reshape(len(noise), -1).mean(0)


def linf_ensemble(detector, images, ids, name, epsilon, *, iterations, restarts, draws, seed):
    """The strongest of several monotone PGD attacks on each image: (images [N, C, H, W], names [N]).

    Starts (Meinke et al. 2022): decontrasted images, uniform noise in the ball and Gaussian noise of 1e-4, the last
    two `restarts` times; for a joint network also the point that raises its discriminator most, since its score is flat
    in floating point where p(i|x) is tiny. A randomised network is attacked through its expected score over `draws`
    fixed noise draws (EOT); randomness is keyed by (seed, name, id). The clean image is a candidate too.
    """
    shape, device = images.shape[1:], images.device

    def drawn(draw, purpose, count):
        return torch.from_numpy(batch_draws(draw, seed, f"attack_linf/{purpose}/{name}", ids, count, shape)).to(device)

    objective = detector.raw_score
    if noisy_parts(detector.network):
        objective = partial(expected_score, detector, noise=drawn(normal_draws, "eot", draws))

    uniform = epsilon * (2 * drawn(uniform_draws, "uniform", restarts) - 1)
    gaussian = 1e-4 * drawn(normal_draws, "gaussian", restarts)
    starts = [
        ("decontrast", decontrast(images, epsilon)),
        *(("uniform", images + delta) for delta in uniform),
        *(("gaussian", images + delta) for delta in gaussian),
    ]
    if isinstance(detector.network, JointNetwork):
        inside = detector.network.discriminator
        raised, _ = monotone_pgd(
            lambda points: inside(points).reshape(-1), images, images, epsilon, iterations=iterations, step=STEP
        )
        starts.append(("discriminator", raised))

    with torch.inference_mode():
        best, value, names = images, objective(images), ["clean"] * len(images)
    for start_name, start in starts:
        found, found_value = monotone_pgd(objective, images, start, epsilon, iterations=iterations, step=STEP)
        better = found_value > value
        best, value = torch.where(better.reshape(-1, 1, 1, 1), found, best), torch.maximum(value, found_value)
        names = [start_name if flag else kept for flag, kept in zip(better.tolist(), names, strict=True)]
    return best, names


def smoothed_l2_attack(detector, images, ids, name, sigma, radius, start, *, iterations, restarts, draws, seed):
    """Images within ‖x' - x‖₂ ≤ radius that raise the smoothed score E s(x' + δ) (SmoothAdv: Salman et al. 2019).

    The gradient is that of the mean score over `draws` fixed draws of δ ~ N(0, sigma² I), keyed by (seed, name, id);
    it begins at `start` [N, C, H, W], then `restarts` times at Gaussian points in the ball. Returns [N, C, H, W].
    """
    shape, device = images.shape[1:], images.device
    noise = torch.from_numpy(batch_draws(normal_draws, seed, f"attack_l2/eot/{name}", ids, draws, shape)).to(device)
    begin = torch.from_numpy(batch_draws(normal_draws, seed, f"attack_l2/start/{name}", ids, restarts, shape))

    def objective(points):
        noisy = (points + sigma * noise).flatten(0, 1)
        return detector.raw_score(noisy).reshape(draws, -1).mean(0)

    spread = radius / images[0].numel() ** 0.5
    best, value = monotone_pgd(objective, images, start, radius, iterations=iterations, norm="l2")
    for delta in begin.to(device):
        found, found_value = monotone_pgd(
            objective, images, images + spread * delta, radius, iterations=iterations, norm="l2"
        )
        better = (found_value > value).reshape(-1, 1, 1, 1)
        best, value = torch.where(better, found, best), torch.maximum(value, found_value)
    return best
