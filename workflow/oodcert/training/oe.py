"""oe: outlier exposure (Hendrycks et al. 2019)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from oodcert.config.models import Recipe
from oodcert.training.loop import Batch, Data, fit_classifier

SETTINGS = {"outlier_weight": "nonnegative"}


def outlier_exposure_loss(log_probabilities: Tensor, labels: Tensor, weight: float) -> dict[str, Tensor]:
    """Cross-entropy of ID images to their labels, and of outliers to the uniform distribution.

    Args:
        log_probabilities: [N + M, K], ID rows first, outlier rows after them.
        labels: Of the ID rows, int64 [N].
        weight: Of the outliers' term.

    Returns:
        The terms "id" and "outliers".

    Source: Hendrycks et al. (2019), https://arxiv.org/abs/1812.04606
    """
    id_rows, ood_rows = log_probabilities.split([len(labels), len(log_probabilities) - len(labels)])
    return {"id": nll_loss(id_rows, labels), "outliers": -weight * ood_rows.mean()}


def train(
    network: nn.Module, components: Mapping[str, nn.Module], data: Data, recipe: Recipe, **run: Any
) -> pd.DataFrame:
    """Trains on the ID images and the outliers.

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
        outputs = network(torch.cat([batch.images, batch.outliers])).log_softmax(1)
        return outlier_exposure_loss(outputs, batch.labels, recipe.outlier_weight)

    return fit_classifier(network, loss, data, recipe, **run)
