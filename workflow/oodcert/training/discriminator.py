"""discriminator: ProoD's ID/OOD discriminator, trained on its interval bounds (Meinke et al. 2022)."""

from collections.abc import Mapping
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from oodcert.certification.interval_propagation import interval_bounds
from oodcert.config.models import Recipe
from oodcert.training.loop import Batch, Data, fit, ramp

SETTINGS = {"epsilon": "nonnegative", "epsilon_ramp": "share", "weight_ramp": "share", "bias_shift": "finite"}


def discriminator_loss(
    network: nn.Module, images: Tensor, outliers: Tensor, epsilon: float, weight: float
) -> dict[str, Tensor]:
    """Binary cross-entropy of ID images, and of the upper bounds over the boxes around outliers.

    Args:
        network: Maps images to one logit [N, 1] of being in-distribution.
        images: ID images [N, C, H, W] in [0, 1].
        outliers: [M, C, H, W] in [0, 1].
        epsilon: Half the side of the boxes, in the [0, 1] pixel scale.
        weight: Of the outliers' term.

    Returns:
        The terms "id" and "outliers".

    Source: Meinke et al. (2022), https://arxiv.org/abs/2106.04260
    """
    lower, upper = (outliers - epsilon).clamp(min=0), (outliers + epsilon).clamp(max=1)
    highest = interval_bounds(network, lower, upper)[1]
    return {"id": softplus(-network(images)).mean(), "outliers": weight * softplus(highest).mean()}


def train(
    network: nn.Sequential, components: Mapping[str, nn.Module], data: Data, recipe: Recipe, **run: Any
) -> pd.DataFrame:
    """Trains on the ID images and on interval bounds around the outliers.

    Epsilon and the outliers' weight rise linearly to `epsilon` and 1 over their shares of the epochs (0: at once). The
    optimizer is Adam. As "steps" the learning rate is divided by 5 at 50, 75 and 85 % of the epochs. The setting
    bias_shift is ProoD's Δ: added to the output's bias after training, it moves p(i|x) of ID images towards one.

    Args:
        network: Discriminator, an nn.Sequential with a linear layer last, trained in place.
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
        weight = ramp(batch.progress, recipe.weight_ramp)
        return discriminator_loss(network, batch.images, batch.outliers, epsilon, weight)

    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = (0.5, 0.75, 0.85)
    curve = fit(network, loss, data, recipe, optimizer=optimizer, milestones=steps, decay=0.2, autocast=False, **run)
    with torch.no_grad():
        cast(nn.Linear, network[-1]).bias.add_(recipe.bias_shift)
    return curve
