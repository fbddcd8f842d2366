"""AutoAttack (Croce and Hein 2020) by its authors' package, on a fixed budget."""

import torch


def autoattack(network, images, labels, epsilon, *, version, iterations, queries, eot, seed, batch_size):
    """AutoAttack's (images [N, C, H, W] in ‖x' - x‖∞ ≤ epsilon, predictions [N]) for the classifier network.

    labels: int64 tensor [N]. version: "standard" for deterministic, "rand" for randomised networks. The full budget
    is 100 iterations, 5000 Square queries and, for "rand", 20 EOT draws: less is a weaker attack and must be said.
    """
    from pyautoattack import AutoAttack

    torch.manual_seed(seed)
    attack = AutoAttack(network, eps=epsilon, norm="Linf", version=version, seed=seed, device=str(images.device))
    attack.verbose = False
    classes = network(images[:1]).shape[1]
    for part in (attack.apgd, attack.apgd_targeted, attack.fab):
        part.n_iter = iterations
    for part in (attack.apgd_targeted, attack.fab):
        part.n_target_classes = min(part.n_target_classes, classes - 1)
    attack.square.n_queries = queries
    attack.apgd.eot_iter = eot
    return attack.run_standard_evaluation(images, labels, batch_size=batch_size)
