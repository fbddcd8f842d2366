"""good: quantile-GOOD, guaranteed low confidence on outliers by interval bounds (Bitterwolf et al. 2020)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from oodcert.certification.interval_propagation import logit_difference_bounds
from oodcert.config.models import Recipe
from oodcert.training.loop import Batch, Data, fit, ramp

SETTINGS = {
    "epsilon": "nonnegative",
    "quantile": "share",
    "outlier_weight": "nonnegative",
    "epsilon_ramp": "share",
    "weight_ramp": "share",
}
BOUNDED = True


def good_loss(logits: Tensor, labels: Tensor, bounds: Tensor, quantile: float, weight: float) -> dict[str, Tensor]:
    """Cross-entropy of ID images, and the confidence loss of outliers.

    The confidence loss of an outlier is log(1 + d² / 2) (eq. 8), where d bounds every difference of its logits. For the
    share `quantile` with the smallest d, rounded down, d bounds them over the outlier's box. For the others it bounds
    them at the outlier itself (eq. 10).

    Args:
        logits: [N + M, K], ID rows first, outliers after them.
        labels: Of the ID rows, int64 [N].
        bounds: [M, K, K], upper bounds on f_k - f_l over the boxes around the outliers.
        quantile: In [0, 1].
        weight: Of the outliers' term.

    Returns:
        The terms "id" and "outliers".

    Source: Bitterwolf et al. (2020), https://arxiv.org/abs/2007.08473
    """
    id_logits, ood_logits = logits.split([len(labels), len(logits) - len(labels)])
    guaranteed, clean = bounds.amax((1, 2)), ood_logits.amax(1) - ood_logits.amin(1)
    easy, hard = guaranteed.argsort(stable=True).tensor_split([int(quantile * len(ood_logits))])
    largest = torch.cat([guaranteed[easy], clean[hard]])
    return {"id": cross_entropy(id_logits, labels), "outliers": weight * torch.log1p(largest**2 / 2).mean()}


def train(
    network: nn.Module, components: Mapping[str, nn.Module], data: Data, recipe: Recipe, **run: Any
) -> pd.DataFrame:
    """Trains on the ID images and on interval bounds around the outliers.

    Epsilon and the outliers' weight rise linearly to `epsilon` and `outlier_weight` over their shares of the epochs.
    The optimizer is Adam. As "steps" the learning rate is divided by 5 at 50, 83 and 94 % of the epochs, as in the
    authors' code for CIFAR-10. The start is from fresh weights, where the paper starts from a network trained for low
    confidence on outliers.

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

    def loss(batch: Batch) -> dict[str, Tensor]:
        epsilon = recipe.epsilon * ramp(batch.progress, recipe.epsilon_ramp)
        weight = recipe.outlier_weight * ramp(batch.progress, recipe.weight_ramp)
        lower, upper = (batch.outliers - epsilon).clamp(min=0), (batch.outliers + epsilon).clamp(max=1)
        bounds = logit_difference_bounds(network, lower, upper)
        logits = network(torch.cat([batch.images, batch.outliers]))
        return good_loss(logits, batch.labels, bounds, recipe.quantile, weight)

    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = (0.5, 0.83, 0.94)
    return fit(network, loss, data, recipe, optimizer=optimizer, milestones=steps, decay=0.2, autocast=False, **run)
