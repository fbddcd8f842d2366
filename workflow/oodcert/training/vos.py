"""vos: virtual outlier synthesis (Du et al. 2022)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pandas as pd
import torch
from scipy.special import gammainccinv
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot, softplus

from oodcert.config.models import Recipe
from oodcert.errors import InputError
from oodcert.training.loop import Batch, Data, fit_classifier

SETTINGS = {"queue": "count", "start": "share", "candidates": "count", "energy_weight": "nonnegative"}

JITTER = 1e-4  # added to the covariance's diagonal, for features without variance


def virtual_outliers(features: Tensor, candidates: int, generator: torch.Generator) -> Tensor:
    """The least likely of many draws from every class's Gaussian.

    The Gaussians have the classes' means and one covariance, tied over the classes, of Cholesky factor L. The
    candidates need not be drawn. For mean + L n with standard normal n is the less likely the longer n is, and the
    direction of n does not depend on its length. So the direction is drawn. The squared length is drawn as the largest
    of that many chi-squared variables: their quantile function at U^(1 / candidates).

    Args:
        features: [K, Q, D], Q of each class.
        candidates: Number of draws of which one is taken.
        generator: On the CPU.

    Returns:
        One virtual outlier for each class, [K, D].

    Raises:
        InputError: The covariance has no Cholesky factor.

    Source: Du et al. (2022), section 3.1, https://arxiv.org/abs/2202.01197
    """
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        classes, _, size = features.shape
        means = features.double().mean(1)
        centred = (features - means[:, None]).flatten(0, 1)
        jitter = JITTER * torch.eye(size, dtype=torch.float32, device=features.device)
        covariance = centred.T @ centred / len(centred) + jitter
        direction = normalize(torch.randn(classes, size, generator=generator, dtype=torch.float64), dim=1)
        uniform = torch.rand(classes, 1, generator=generator, dtype=torch.float64)
        above = -torch.expm1(uniform.log() / candidates)  # 1 - U^(1 / candidates)
        length = torch.from_numpy(2 * gammainccinv(size / 2, above.numpy())).sqrt()
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if failed:
            raise InputError(
                "The features of the classes have no Gaussian: their covariance is not finite or too uneven. Training "
                "diverges: lower this component's learning_rate in the config."
            )
        steps = (length * direction).to(features.device) @ factor.T
        return (means + steps).to(features.dtype)


def energy_loss(id_logits: Tensor, ood_logits: Tensor) -> Tensor:
    """Logistic loss between ID images and virtual outliers. Both kinds count alike, however many there are.

    Args:
        id_logits: Logits of "ID" of ID images, [N].
        ood_logits: Logits of "ID" of virtual outliers, [M].

    Returns:
        A scalar.

    Source: Du et al. (2022), section 3.2, https://arxiv.org/abs/2202.01197
    """
    return softplus(-id_logits).mean() + softplus(ood_logits).mean()


class VirtualOutlierLoss(nn.Module):
    """Cross-entropy, "id", and after a share of the epochs energy_weight times `energy_loss`, "outliers".

    The logit of "ID" is scale · log Σ_k w_k exp f_k + shift, linear in the negative energy. w_k > 0, scale > 0 and the
    shift are trained along, from 1, 1 and 0 on. The authors' code leaves the scale's sign free, which lets training
    turn the energy round. The features, the inputs of the network's last layer, wait in queues, one for each class. The
    term "outliers" begins once all queues are full.

    On features that are Gaussian as assumed, with classes of equal size, the energy loss can't fall below chance,
    2 log 2: the negative energy is convex in them, so its mean can only grow with the distance from the class's mean.

    Args:
        network: Classifier, an nn.Sequential with its linear head last.
        queue: How many of its latest features each class keeps.
        start: Share of the epochs from which on the term "outliers" counts, in [0, 1].
        candidates: Draws of which the least likely is the virtual outlier.
        energy_weight: Of the term "outliers".

    Source: Du et al. (2022), https://arxiv.org/abs/2202.01197
    """

    queue: Tensor
    seen: Tensor

    def __init__(self, network: nn.Sequential, queue: int, start: float, candidates: int, energy_weight: float) -> None:
        super().__init__()
        self.network, self.start, self.candidates, self.energy_weight = network, start, candidates, energy_weight
        head = cast(nn.Linear, network[-1])
        self.register_buffer("queue", torch.zeros(head.out_features, queue, head.in_features, dtype=torch.float32))
        self.register_buffer("seen", torch.zeros(head.out_features, dtype=torch.int64))
        self.log_weights = nn.Parameter(torch.zeros(head.out_features, dtype=torch.float32))
        self.log_scale, self.shift = (nn.Parameter(torch.zeros((), dtype=torch.float32)) for _ in range(2))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of a batch. The batch's features enter the queues."""
        features = self.network[:-1](batch.images)
        logits = self.network[-1](features)
        self.enqueue(features.detach(), batch.labels)
        terms = {"id": cross_entropy(logits, batch.labels)}
        if batch.progress >= self.start and bool((self.seen >= self.queue.shape[1]).all()):
            outliers = self.network[-1](virtual_outliers(self.queue, self.candidates, batch.generator))
            terms["outliers"] = self.energy_weight * energy_loss(self.id_logit(logits), self.id_logit(outliers))
        return terms

    def id_logit(self, logits: Tensor) -> Tensor:
        """The logit of "ID".

        Args:
            logits: Of the classes, [N, K].

        Returns:
            [N].
        """
        return self.log_scale.exp() * (logits.float() + self.log_weights).logsumexp(1) + self.shift

    def enqueue(self, features: Tensor, labels: Tensor) -> None:
        """Puts features in the places of the oldest ones of their classes.

        Args:
            features: [N, D].
            labels: int64 [N].
        """
        classes, size, _ = self.queue.shape
        counts = one_hot(labels, classes).cumsum(0)
        place = self.seen[labels] + counts.gather(1, labels[:, None])[:, 0] - 1
        self.seen += counts[-1]
        stay = place >= self.seen[labels] - size
        self.queue[labels[stay], place[stay] % size] = features[stay].to(self.queue.dtype)


def train(
    network: nn.Sequential, components: Mapping[str, nn.Module], data: Data, recipe: Recipe, **run: Any
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
        InputError: A class has too few images to fill its queue in all epochs together, or a term of the loss is not
            finite.
    """
    loss = VirtualOutlierLoss(network, **{key: getattr(recipe, key) for key in SETTINGS}).to(data.images.device)
    fewest = data.labels.bincount(minlength=len(loss.queue)).min().item() * recipe.epochs
    if fewest < recipe.queue:
        raise InputError(
            f"A class has {fewest} features in all epochs, but a queue of {recipe.queue} must be filled before "
            "virtual outliers can be drawn: lower this component's queue in the config, or give every class more "
            "images."
        )
    return fit_classifier(network, loss, replace(data, outliers=data.outliers[:0]), recipe, **run)
