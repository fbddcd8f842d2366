"""logitnorm: cross-entropy on normalised logits (Wei et al. 2022)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from oodcert.config.models import Recipe
from oodcert.training.loop import Batch, Data, fit_classifier

SETTINGS = {"temperature": "positive"}

SHORTEST = 1e-7  # norm below which logits count as this long


def logitnorm_loss(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of logits / (temperature · ‖logits‖₂).

    The length of the logits is without effect: a network can't lower this loss by growing more confident alone.

    Args:
        logits: [N, K].
        labels: int64 [N].
        temperature: τ > 0; 0.04 in the paper.

    Returns:
        A scalar.

    Source: Wei et al. (2022), section 3, https://arxiv.org/abs/2205.09310
    """
    return cross_entropy(normalize(logits.float(), dim=1, eps=SHORTEST) / temperature, labels)


def train(
    network: nn.Module, components: Mapping[str, nn.Module], data: Data, recipe: Recipe, **run: Any
) -> pd.DataFrame:
    """Trains on the ID images alone.

    The logits that the trained network gives are not normalised: their length, larger on ID images, is what detectors
    use.

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
        return {"id": logitnorm_loss(network(batch.images), batch.labels, recipe.temperature)}

    return fit_classifier(network, loss, replace(data, outliers=data.outliers[:0]), recipe, **run)
