"""plain: cross-entropy on the ID images."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from oodcert.config.models import Recipe
from oodcert.training.loop import Batch, Data, fit_classifier

SETTINGS: dict[str, str] = {}


def train(
    network: nn.Module, components: Mapping[str, nn.Module], data: Data, recipe: Recipe, **run: Any
) -> pd.DataFrame:
    """Trains on the ID images alone.

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
        return {"id": cross_entropy(network(batch.images), batch.labels)}

    return fit_classifier(network, loss, replace(data, outliers=data.outliers[:0]), recipe, **run)
