"""AutoAttack (Croce and Hein 2020) by its authors' package, on a fixed budget, every attack by itself."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from oodcert.attacks import AUTOATTACK
from oodcert.attacks.steps import value_and_gradient
from oodcert.errors import InputError
from oodcert.runtime.memory import within_memory
from oodcert.runtime.torch_setup import in_float32

LEAST_CLASSES = {"standard": 4, "rand": 3}  # for the targeted and the plain DLR loss

Points = dict[str, tuple[Tensor, Tensor]]  # attack -> images [N, C, H, W], whether each is broken, bool [N]


@in_float32()
def autoattack(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    version: str,
    iterations: int,
    queries: int,
    eot: int,
    seed: int,
    batch_size: int,
) -> Points:
    """Adversarial images in ‖x' - x‖∞ ≤ epsilon for a classifier, by each attack by itself.

    An image that withstands the worst case withstands all. The full budget is 100 iterations, 5000 Square queries and
    20 EOT draws: less is a weaker attack and must be said. There are two versions:

    - "standard", for deterministic networks: apgd-ce, apgd-t, fab-t and square on every correctly classified image,
      which is the package's individual evaluation. The images are the originals where the attack failed, and "broken"
      is its verdict.
    - "rand", for randomised networks: the points of highest loss of apgd-ce and apgd-dlr with `eot` noise draws a
      gradient, for every image. There is no verdict, "broken" is all False: a single noisy pass decides nothing, so the
      caller judges the points by averaged predictions.

    The package's random numbers depend on an image's place in its batch, and begin anew with every batch. So the result
    for an image depends on the others of its batch, and on no more.

    Args:
        network: Classifier, from images [N, C, H, W] in [0, 1] to logits [N, K].
        images: [N, C, H, W] in [0, 1].
        labels: int64 [N].
        epsilon: Radius of the balls, in the [0, 1] pixel scale.
        version: "standard" or "rand".
        iterations: Steps of APGD and FAB.
        queries: Queries of Square.
        eot: Noise draws a gradient of "rand".
        seed: Of the package's random numbers.
        batch_size: Images attacked together.

    Returns:
        Name of the attack -> images [N, C, H, W], and whether each is broken, bool [N].

    Raises:
        InputError: The network has too few classes for the DLR loss, or memory does not suffice for a batch.

    Source: Croce and Hein (2020), https://arxiv.org/abs/2003.01690
    """
    run = _individual if version == "standard" else _strongest_points
    batches = []
    for some, their_labels in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        attack = _attack(network, some, epsilon, version, iterations, queries, eot, seed)
        attacked = partial(run, attack, some, their_labels, seed)
        gradient = partial(_gradient_of_first, network, some)
        batches.append(within_memory(attacked, len(some), gradient, "evaluation.batch_size"))
    return {
        name: (torch.cat([batch[name][0] for batch in batches]), torch.cat([batch[name][1] for batch in batches]))
        for name in AUTOATTACK[version]
    }


def _attack(
    network: nn.Module,
    images: Tensor,
    epsilon: float,
    version: str,
    iterations: int,
    queries: int,
    eot: int,
    seed: int,
) -> Any:
    """The package's object, on the budget."""
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
    for ascent in (attack.apgd, attack.apgd_targeted):
        ascent.n_iter = iterations
        # its review of the step sizes, which the package plans for the iterations given when it is made
        ascent.n_iter_2, ascent.n_iter_min, ascent.size_decr = (max(int(p * iterations), 1) for p in (0.22, 0.06, 0.03))
    attack.fab.n_iter = iterations
    for targeted in (attack.apgd_targeted, attack.fab):
        targeted.n_target_classes = min(targeted.n_target_classes, classes - 1)
    attack.square.n_queries = queries
    attack.apgd.eot_iter = eot
    return attack


def _gradient_of_first(network: nn.Module, images: Tensor, count: int) -> None:
    """A gradient of the first images, for what memory it takes."""
    value_and_gradient(lambda points: network(points).amax(1), images[:count])


def _individual(attack: Any, images: Tensor, labels: Tensor, seed: int) -> Points:
    torch.manual_seed(seed)
    results = attack.run_standard_evaluation_individual(images, labels, batch_size=len(images))
    return {name: (points, predictions != labels) for name, (points, predictions) in results.items()}


def _strongest_points(attack: Any, images: Tensor, labels: Tensor, seed: int) -> Points:
    results = {}
    for name in AUTOATTACK["rand"]:
        torch.manual_seed(seed)
        attack.apgd.loss = name.removeprefix("apgd-")
        points = attack.apgd.perturb(images, labels, best_loss=True)
        results[name] = points, torch.zeros_like(labels, dtype=torch.bool)
    return results
