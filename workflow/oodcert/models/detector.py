"""A detector: a network and a score."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from oodcert.config.method_specs import UNBOUNDED_SCORES
from oodcert.errors import InputError
from oodcert.models.checks import check_images, checked_logits
from oodcert.models.scores import SCORES


class Detector:
    """Scores images with a network: **higher = more in-distribution**.

    The network is put in evaluation mode. The scores by name are

    - "msp": the maximum softmax probability, in [1/K, 1];
    - "energy": the logsumexp of the logits;
    - "max_logit": the largest logit;
    - "atom": minus the log-probability of the last class, for networks whose last class, K + 1, is that of outliers.

    All but "msp" are unbounded. A callable may be either.

    Args:
        network: Any nn.Module from images [N, C, H, W] in [0, 1] to logits [N, K].
        score: "msp", "energy", "max_logit", "atom", or a callable from logits [N, K] to scores [N].

    Raises:
        InputError: The score is unknown.

    Source: Chen et al. (2021) for "atom", https://arxiv.org/abs/2006.15207
    """

    def __init__(self, network: nn.Module, score: str | Callable[[Tensor], Tensor] = "msp") -> None:
        if not callable(score) and score not in SCORES:
            raise InputError(f"Unknown score {score!r}: use one of {', '.join(SCORES)} or a callable of the logits.")
        self.network = network.eval()
        self.score_of = score if callable(score) else SCORES[score]
        self.unbounded = score in UNBOUNDED_SCORES

    def score(self, images: Tensor) -> Tensor:
        """The scores of images, without gradients.

        Args:
            images: Float tensor [N, C, H, W] in [0, 1].

        Returns:
            Scores [N].

        Raises:
            InputError: The images have another type, shape or range, or their logits are not finite.
        """
        check_images(images)
        self.network.eval()
        with torch.inference_mode():
            return self.raw_score(images)

    def raw_score(self, images: Tensor) -> Tensor:
        """Differentiable scores of any images, such as noisy ones beyond [0, 1].

        Args:
            images: Float tensor [N, C, H, W].

        Returns:
            Scores [N].

        Raises:
            InputError: The logits have another shape than [N, K] or are not finite.
        """
        return self.score_of(checked_logits(self.network, images))
