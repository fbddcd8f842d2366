"""atom: adversarial training with informative outlier mining (Chen et al. 2021)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from oodcert.config.models import Recipe
from oodcert.errors import InputError
from oodcert.models.scores import SCORES
from oodcert.training.acet import attack
from oodcert.training.loop import Batch, Data, fit_classifier

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


def atom_loss(logits: Tensor, labels: Tensor, weight: float) -> dict[str, Tensor]:
    """Cross-entropy of ID images to their labels, and of attacked outliers to the class K + 1.

    Args:
        logits: [N + M, K + 1], ID rows first, attacked outliers after them.
        labels: Of the ID rows, int64 [N].
        weight: Of the outliers' term.

    Returns:
        The terms "id" and "outliers".

    Source: Chen et al. (2021), section 3, https://arxiv.org/abs/2006.15207
    """
    id_logits, ood_logits = logits.split([len(labels), len(logits) - len(labels)])
    return {"id": cross_entropy(id_logits, labels), "outliers": weight * id_score(ood_logits).mean()}


def mine_outliers(
    network: nn.Module, outliers: Tensor, pool: int, quantile: float, generator: torch.Generator
) -> Tensor:
    """Informative outliers, hardest first.

    `pool` outliers are drawn without replacement, or all where there are fewer. They are sorted by p_{K+1}, those that
    look most in-distribution first. A quarter of them is taken, from the share `quantile` of this order on.

    Args:
        network: In evaluation mode, with K + 1 logits.
        outliers: uint8 [M, C, H, W].
        pool: How many outliers are drawn.
        quantile: In [0, 0.75].
        generator: On the CPU.

    Returns:
        Their indices, int64 on the CPU.

    Raises:
        InputError: The quantile leaves less than a quarter.

    Source: Chen et al. (2021), algorithm 1, https://arxiv.org/abs/2006.15207
    """
    if quantile > 1 - MINED:
        raise InputError(
            f"Outliers are mined from quantile {quantile} of the pool on, but {MINED:.0%} of it are needed: "
            f"set this component's quantile to {1 - MINED} at most in the config."
        )
    candidates = torch.randperm(len(outliers), generator=generator)[:pool]
    chunks = (outliers[chunk.to(outliers.device)].float() / 255 for chunk in candidates.split(CHUNK))
    scores = torch.cat([id_score(network(chunk)) for chunk in chunks]).cpu()
    hardest = candidates[scores.argsort(descending=True, stable=True)]
    first = int(quantile * len(hardest))
    return hardest[first : first + max(1, int(MINED * len(hardest)))]


def train(
    network: nn.Module, components: Mapping[str, nn.Module], data: Data, recipe: Recipe, **run: Any
) -> pd.DataFrame:
    """Trains on the ID images and mined outliers, each attacked towards the least p_{K+1}.

    Args:
        network: Classifier, trained in place.
        components: Not used.
        data: What is trained on.
        recipe: The component's entry in the config's `training`.
        run: seed and the further options of `fit`.

    Returns:
        The learning curve of `fit`.

    Raises:
        InputError: A term of the loss is not finite.
    """
    epsilon, iterations = recipe.epsilon, recipe.attack_iterations

    def mine(module: nn.Module, outliers: Tensor, generator: torch.Generator) -> Tensor:
        return mine_outliers(module, outliers, recipe.pool, recipe.quantile, generator)

    def loss(batch: Batch) -> dict[str, Tensor]:
        outliers = attack(network, id_score, batch.outliers, epsilon, iterations, batch.generator)
        return atom_loss(network(torch.cat([batch.images, outliers])), batch.labels, recipe.outlier_weight)

    return fit_classifier(network, loss, data, recipe, mine=mine, **run)
