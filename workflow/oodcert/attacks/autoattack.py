"""AutoAttack (Croce and Hein 2020) by its authors' package, on a fixed budget, every attack on its own."""

import torch

from oodcert.attacks import AUTOATTACK
from oodcert.errors import InputError

LEAST_CLASSES = {"standard": 4, "rand": 3}  # for the targeted and the plain DLR loss


def autoattack(network, images, labels, epsilon, *, version, iterations, queries, eot, seed, batch_size):
    """Adversarial images in ‖x' - x‖∞ ≤ epsilon for the classifier network, by each attack on its own.

    labels: int64 tensor [N]. Returns a dict from the attack's name to (images [N, C, H, W], broken bool [N]); an image
    that withstands the worst case withstands all. version "standard", for deterministic networks: apgd-ce, apgd-t,
    fab-t and square on every correctly classified image, which is the package's individual evaluation; the images are
    the originals where the attack failed, and `broken` is its verdict. version "rand", for randomised networks: the
    points of highest loss of apgd-ce and apgd-dlr with `eot` noise draws a gradient, for every image, and no verdict
    (all False): a single noisy pass decides nothing, so the caller judges the points by averaged predictions.

    The package's random numbers depend on an image's place in its batch, and begin anew with every batch: so the
    result for an image depends on the others of its batch_size images, and on no more.

    The full budget is 100 iterations, 5000 Square queries and 20 EOT draws: less is a weaker attack and must be said.
    Raises InputError where the network has too few classes for the DLR loss.
    """
    found = []
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        attack = _attack(network, x, epsilon, version, iterations, queries, eot, seed)
        found.append((_individual if version == "standard" else _strongest_points)(attack, x, y, seed))
    return {
        name: tuple(map(torch.cat, zip(*(one[name] for one in found), strict=True))) for name in AUTOATTACK[version]
    }


def _attack(network, images, epsilon, version, iterations, queries, eot, seed):
    from pyautoattack import AutoAttack

    with torch.no_grad():
        classes = network(images[:1]).shape[1]
    if classes < LEAST_CLASSES[version]:
        raise InputError(
            f"AutoAttack {version!r} needs {LEAST_CLASSES[version]} classes for its DLR loss, the network has "
            f"{classes}: leave attack_id out, or attack a network with more classes."
        )
    attack = AutoAttack(network, eps=epsilon, norm="Linf", version=version, seed=seed, device=str(images.device))
    attack.verbose = False
    for part in (attack.apgd, attack.apgd_targeted):
        part.n_iter = iterations
        # its review of the step sizes, which the package plans for the iterations given when it is made
        part.n_iter_2, part.n_iter_min, part.size_decr = (max(int(p * iterations), 1) for p in (0.22, 0.06, 0.03))
    attack.fab.n_iter = iterations
    for part in (attack.apgd_targeted, attack.fab):
        part.n_target_classes = min(part.n_target_classes, classes - 1)
    attack.square.n_queries = queries
    attack.apgd.eot_iter = eot
    return attack


def _individual(attack, images, labels, seed):
    torch.manual_seed(seed)
    found = attack.run_standard_evaluation_individual(images, labels, batch_size=len(images))
    return {name: (points, predictions != labels) for name, (points, predictions) in found.items()}


def _strongest_points(attack, images, labels, seed):
    found = {}
    for name in AUTOATTACK["rand"]:
        torch.manual_seed(seed)
        attack.apgd.loss = name.removeprefix("apgd-")
        found[name] = attack.apgd.perturb(images, labels, best_loss=True), torch.zeros_like(labels, dtype=torch.bool)
    return found
