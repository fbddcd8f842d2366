"""prood: the classifier of ProoD, trained semi-jointly with a fixed discriminator (Meinke et al. 2022)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from oodcert.config.models import Recipe
from oodcert.models.wrappers import JointNetwork
from oodcert.training.loop import Batch, Data, fit_classifier
from oodcert.training.oe import outlier_exposure_loss

SETTINGS = {"outlier_weight": "nonnegative"}
NEEDS = ("discriminator",)


class JointLoss(nn.Module):
    """Outlier exposure of the joint network. A module, so that a checkpoint is tied to its discriminator.

    Args:
        network: The classifier that is trained.
        discriminator: Fixed; maps images to one logit of being in-distribution.
        weight: Of the outliers' term.

    Source: Meinke et al. (2022), https://arxiv.org/abs/2106.04260
    """

    def __init__(self, network: nn.Module, discriminator: nn.Module, weight: float) -> None:
        super().__init__()
        self.network, self.discriminator, self.weight = network, discriminator, weight

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms "id" and "outliers"."""
        images = torch.cat([batch.images, batch.outliers])
        logits = self.network(images)
        joint = JointNetwork(lambda _: logits, self.discriminator, logits.shape[1])
        return outlier_exposure_loss(joint(images), batch.labels, self.weight)


def train(
    network: nn.Module, components: Mapping[str, nn.Module], data: Data, recipe: Recipe, **run: Any
) -> pd.DataFrame:
    """Trains the classifier by the outlier exposure of the joint network.

    If the learning_rate is too high, a class may never be learned, and the term "id" stays high. The reason is that
    p(y|x) is at least (1 - p(i|x)) / K: where p(y|x, i) has fallen far below that, no gradient is left.

    Args:
        network: Classifier, trained in place.
        components: "discriminator" is needed; it is moved to the data's device and stays as it is.
        data: What is trained on.
        recipe: The component's entry in the config's `training`.
        run: seed and the further options of `fit`.

    Returns:
        The learning curve of `fit`.

    Raises:
        InputError: A term of the loss is not finite.
    """
    discriminator = components["discriminator"].to(data.images.device).requires_grad_(False)
    loss = JointLoss(network, discriminator, recipe.outlier_weight)
    return fit_classifier(network, loss, data, recipe, **run)
