"""The l-infinity attack of the authors' code on OOD confidence (D14, D18, D19, D22)."""

import torch

from oodcert.attacks.apgd import apgd as auto_pgd
from oodcert.attacks.objective import mean_objective
from oodcert.attacks.ood import STEP, apgd_starts, pgd_starts
from oodcert.attacks.pgd import monotone_pgd
from oodcert.attacks.steps import per_sample, projection, refuse_nan, strongest, value_and_gradient
from oodcert.authors_code.networks import detector
from oodcert.models.checks import checked_logits
from oodcert.models.wrappers import noisy_modules, replayed_logits
from oodcert.runtime.keyed_noise import keyed_batch, keyed_noise

MOMENTUM = 0.9


def authors_code_ensemble(network, score, images, ids, name, *, epsilon, protocol, apgd, pgd, draws, seed):
    """Images in ‖x' - x‖∞ ≤ epsilon by every attack: dict from its name to images [N, C, H, W], one batch [N] of them.

    Budgets and randomness as of oodcert.attacks.ood.linf_ensemble; there is no Square. Published, "apgd" leaves every
    image as it is, since it attacks those whose label is predicted (D14); every gradient is of one fresh noise draw
    (D18); the objective of an energy score is the softmax (D22).
    """
    target = detector(network, "msp" if score == "energy" and "D22" in protocol else score, protocol)
    randomised, shape, device = bool(noisy_modules(network)), images.shape[1:], images.device

    def drawn(draw, purpose, count):
        noise = keyed_batch(draw, seed, f"published/{purpose}/{name}", ids, count, shape)
        return torch.from_numpy(noise).to(device)

    def objective(purpose, iterations):
        """A function of points to values: published the score on the next draw, sound its mean over the same draws."""
        if not randomised:
            return lambda points: _value(target, checked_logits(network, points)[None], protocol)
        if "D18" not in protocol:
            fixed = drawn(keyed_noise, "eot", draws)
            return lambda points: _value(target, replayed_logits(network, points, fixed), protocol)
        fresh = iter(drawn(keyed_noise, purpose, iterations + 1))
        return lambda points: _value(target, replayed_logits(network, points, next(fresh)[None]), protocol)

    def monotone(purpose, start):
        ascend = mean_gradient_pgd if "D19" in protocol else monotone_pgd
        run = objective(purpose, pgd["iterations"])
        return ascend(run, images, start, epsilon, iterations=pgd["iterations"], step=STEP)

    found = {"apgd": images}
    if "D14" not in protocol:
        runs = [
            auto_pgd(
                objective(f"apgd/{restart}/draws", apgd["iterations"]),
                images,
                start,
                epsilon,
                iterations=apgd["iterations"],
            )
            for restart, start in enumerate(apgd_starts(images, epsilon, drawn, apgd["restarts"]))
        ]
        found["apgd"] = strongest(runs)[0]
    for attack, several in pgd_starts(images, epsilon, drawn, pgd["restarts"]).items():
        runs = [monotone(f"{attack}/{restart}/draws", start) for restart, start in enumerate(several)]
        found[attack] = strongest(runs)[0]
    return found


def _value(target, logits, protocol):
    """Values [N] of logits [m, N, K]: published the mean score, sound what orders images alike and stays steep."""
    if "D19" in protocol:
        return target.score_of(logits.flatten(0, 1)).unflatten(0, logits.shape[:2]).mean(0)
    return mean_objective(target, logits)


def mean_gradient_pgd(objective, images, start, epsilon, *, iterations, step):
    """The authors' monotone PGD (D19): momentum of the gradient of the batch's mean value, not normalised.

    So the more images in a batch, and the flatter the score, the shorter the steps. A step that lowers an image's value
    is undone, yet what is returned is the last trial, undone or not. Returns (images, highest values [N]).
    """
    project = projection(images, epsilon, "linf")
    trial = best = project(start)
    velocity = kept = torch.zeros_like(best)
    steps = torch.full((len(best), 1, 1, 1), float(step), device=best.device)
    value, sums = torch.full((len(best),), -torch.inf, device=best.device), []
    for iteration in range(iterations + 1):
        found, gradient = value_and_gradient(objective, trial)
        sums.append(found.sum() + gradient.sum())
        worse = per_sample(found < value)
        best = torch.where(worse, best, trial)
        kept = velocity = torch.where(worse, kept, velocity)
        value = torch.maximum(value.to(found.dtype), found)
        if iteration > 0:
            steps = torch.where(worse, steps / 2, 1.1 * steps)
        if iteration < iterations:
            velocity = MOMENTUM * velocity + gradient / len(images)
            trial = project(best + steps * velocity)
    refuse_nan(sums)
    return trial, value
