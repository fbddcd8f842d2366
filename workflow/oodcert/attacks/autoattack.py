"""AutoAttack (Croce and Hein 2020) by its authors' package, on a fixed budget."""

import torch


def autoattack(network, images, labels, epsilon, *, version, iterations, queries, eot, seed, batch_size):
    """Adversarial images in ‖x' - x‖∞ ≤ epsilon for the classifier network, and which images it broke.

    labels: int64 tensor [N]. version "standard", for deterministic networks: one set of images [N, C, H, W], the
    original where the attack failed, and its verdict, bool [N]. version "rand", for randomised networks: the points of
    highest loss of APGD-CE and of APGD-DLR with `eot` noise draws a gradient, for every image, and no verdict (all
    False): a single noisy pass decides nothing, so the caller judges the points by averaged predictions.
    Returns (list of images, broken). The full budget is 100 iterations, 5000 Square queries and 20 EOT draws: less is
    a weaker attack and must be said.
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
    if version == "standard":
        found, predictions = attack.run_standard_evaluation(images, labels, batch_size=batch_size)
        return [found], predictions != labels
    candidates = []
    for attack.apgd.loss in ("ce", "dlr"):
        batches = zip(images.split(batch_size), labels.split(batch_size), strict=True)
        candidates.append(torch.cat([attack.apgd.perturb(x, y, best_loss=True) for x, y in batches]))
    return candidates, torch.zeros_like(labels, dtype=torch.bool)
