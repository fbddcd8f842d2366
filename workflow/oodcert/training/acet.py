"""acet: adversarial confidence enhanced training (Hein et al. 2019)."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from oodcert.attacks.pgd import monotone_pgd
from oodcert.config.models import Recipe
from oodcert.errors import InputError
from oodcert.training.loop import Batch, Data, fit_classifier

SETTINGS = {"epsilon": "nonnegative", "attack_iterations": "count", "outlier_weight": "nonnegative"}


def log_confidence(logits: Tensor) -> Tensor:
    """The largest log-probability, max_k log p_k.

    Args:
        logits: [N, K].

    Returns:
        [N], in [-log K, 0]. Only the uniform distribution has the least.
    """
    return logits.log_softmax(1).amax(1)


def acet_loss(logits: Tensor, labels: Tensor, weight: float) -> dict[str, Tensor]:
    """Cross-entropy of ID images, and the mean log-confidence of attacked outliers.

    The second term is the maximal log-confidence, not the cross-entropy to uniform of outlier exposure; both are least
    at the uniform distribution.

    Args:
        logits: [N + M, K], ID rows first, attacked outliers after them.
        labels: Of the ID rows, int64 [N].
        weight: Of the outliers' term.

    Returns:
        The terms "id" and "outliers".

    Source: Hein et al. (2019), section 4, https://arxiv.org/abs/1812.05720
    """
    id_logits, ood_logits = logits.split([len(labels), len(logits) - len(labels)])
    return {"id": cross_entropy(id_logits, labels), "outliers": weight * log_confidence(ood_logits).mean()}


def attack(
    network: nn.Module,
    objective: Callable[[Tensor], Tensor],
    images: Tensor,
    epsilon: float,
    iterations: int,
    generator: torch.Generator,
) -> Tensor:
    """Images that maximise an objective within ‖x' - x‖∞ ≤ epsilon, x' in [0, 1], by monotone PGD.

    The start is uniform in the ball. The network is attacked in evaluation mode, in which an image's logits do not
    depend on the batch, and left in the mode it was in.

    Args:
        network: Maps images to logits.
        objective: Maps logits [N, K] to values [N].
        images: [N, C, H, W] in [0, 1].
        epsilon: Radius of the balls, in the [0, 1] pixel scale.
        iterations: Number of steps.
        generator: On the CPU, of the start.

    Returns:
        Images [N, C, H, W] in [0, 1].

    Raises:
        InputError: The objective becomes NaN.
    """
    training = network.training
    network.eval()
    noise = 2 * torch.rand(images.shape, generator=generator, dtype=torch.float32) - 1
    start = images + epsilon * noise.to(images.device)
    try:
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 does not resolve such small changes
            attacked, _ = monotone_pgd(lambda x: objective(network(x)), images, start, epsilon, iterations=iterations)
    except InputError as error:
        raise InputError(f"Training diverges: lower this component's learning_rate in the config. {error}") from error
    network.train(training)
    return attacked


def train(
    network: nn.Module, components: Mapping[str, nn.Module], data: Data, recipe: Recipe, **run: Any
) -> pd.DataFrame:
    """Trains on the ID images and attacked outliers.

    The attack starts from the outliers, where Hein et al. (2019) start from noise.

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

    def loss(batch: Batch) -> dict[str, Tensor]:
        outliers = attack(network, log_confidence, batch.outliers, epsilon, iterations, batch.generator)
        return acet_loss(network(torch.cat([batch.images, outliers])), batch.labels, recipe.outlier_weight)

    return fit_classifier(network, loss, data, recipe, **run)
