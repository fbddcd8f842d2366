"""atom: adversarial training with informative outlier mining (Chen et al. 2021)."""

import torch
from torch.nn.functional import cross_entropy

from oodcert.errors import InputError
from oodcert.models.scores import SCORES
from oodcert.training.acet import attack
from oodcert.training.loop import fit_classifier

SETTINGS = {
    "epsilon": "nonnegative",
    "attack_iterations": "count",
    "outlier_weight": "nonnegative",
    "pool": "count",
    "quantile": "share",
}
EXTRA_OUTPUTS = 1  # class K + 1 holds the outliers

MINED = 0.25  # share of the pool that an epoch trains on: the paper mines 100 000 of 400 000
CHUNK = 500  # outliers scored together

id_score = SCORES["atom"]  # -log p_{K+1}


def atom_loss(logits, labels, weight):
    """Cross-entropy of the first len(labels) rows, "id", and weight times that of the others to K + 1, "outliers".

    logits: [N + M, K + 1], ID rows first, attacked outliers after them. The objective of Chen et al. (2021, section 3).
    """
    inside, outside = logits.split([len(labels), len(logits) - len(labels)])
    return {"id": cross_entropy(inside, labels), "outliers": weight * id_score(outside).mean()}


def mine_outliers(network, outliers, pool, quantile, generator):
    """Indices (int64, on the CPU) of informative outliers, hardest first (Chen et al. 2021, algorithm 1).

    `pool` outliers drawn without replacement, or all where there are fewer, are sorted by p_{K+1}, those that look most
    in-distribution first; a quarter of them is taken from the share `quantile` of the order on. outliers: uint8
    [M, C, H, W]; network in evaluation mode. Raises InputError where quantile leaves less than a quarter.
    """
    if quantile > 1 - MINED:
        raise InputError(
            f"Outliers are mined from quantile {quantile} of the pool on, but {MINED:.0%} of it are needed: "
            f"set this part's quantile to {1 - MINED} at most in the config."
        )
    candidates = torch.randperm(len(outliers), generator=generator)[:pool]
    chunks = (outliers[chunk.to(outliers.device)].float() / 255 for chunk in candidates.split(CHUNK))
    scores = torch.cat([id_score(network(chunk)) for chunk in chunks]).cpu()
    hardest = candidates[scores.argsort(descending=True, stable=True)]
    first = int(quantile * len(hardest))
    return hardest[first : first + max(1, int(MINED * len(hardest)))]


def train(network, parts, data, settings, **run):
    """Every mined outlier is attacked, towards the least p_{K+1}."""
    epsilon, iterations = settings["epsilon"], settings["attack_iterations"]

    def mine(module, outliers, generator):
        return mine_outliers(module, outliers, settings["pool"], settings["quantile"], generator)

    def loss(batch):
        outliers = attack(network, id_score, batch.outliers, epsilon, iterations, batch.generator)
        return atom_loss(network(torch.cat([batch.images, outliers])), batch.labels, settings["outlier_weight"])

    return fit_classifier(network, loss, data, settings, mine=mine, **run)
