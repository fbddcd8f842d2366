"""A detector: a network and a score."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from oodcert.config.method_specs import UNBOUNDED_SCORES
from oodcert.errors import InputError
from oodcert.models.calls import evaluation_mode, put_in_evaluation, require_network, without_gradients
from oodcert.models.checks import checked_logits
from oodcert.models.images import as_images
from oodcert.models.outputs import TWO_LOGITS
from oodcert.models.scores import SCORES
from oodcert.models.trial import refuse_probabilities, try_network
from oodcert.runtime.memory import is_out_of_memory


class Detector:
    """Scores images with a network: **higher = more in-distribution**.

    The network is put in evaluation mode. The scores by name are

    - "msp": the maximum softmax probability, in [1/K, 1];
    - "energy": the logsumexp of the logits;
    - "max_logit": the largest logit;
    - "atom": minus the log-probability of the last class, for networks whose last class, K + 1, is that of outliers.

    All but "msp" are unbounded. A callable may be either. Scores are computed in float64, whatever the network's type.

    Args:
        network: Any nn.Module from images [N, C, H, W] in [0, 1] to logits [N, K], or to an object or dict that has
            them as `logits`.
        score: "msp", "energy", "max_logit", "atom", or a callable from float64 logits [N, K] to scores [N].

    Raises:
        InputError: The score is unknown, or the network is no nn.Module.

    Source: Chen et al. (2021) for "atom", https://arxiv.org/abs/2006.15207
    """

    def __init__(self, network: nn.Module, score: str | Callable[[Tensor], Tensor] = "msp") -> None:
        if not callable(score) and not (isinstance(score, str) and score in SCORES):
            raise InputError(f"Unknown score {score!r}: use one of {', '.join(SCORES)} or a callable of the logits.")
        self.network = require_network(network)
        put_in_evaluation(network)
        self.score_of = score if callable(score) else SCORES[score]
        self.unbounded = isinstance(score, str) and score in UNBOUNDED_SCORES
        self._tried: nn.Module | None = None

    def score(self, images: Any) -> Tensor:
        """The scores of images, without gradients.

        The first call tries the network on a few images (see oodcert.models.trial).

        Args:
            images: Float tensor or array [N, C, H, W] in [0, 1]. It is not changed.

        Returns:
            Scores [N], in float64.

        Raises:
            InputError: The images have another type, shape or range, their logits are not finite, or the network is of
                a kind that has no score for an image.
        """
        images = as_images(images)
        with evaluation_mode(self.network), without_gradients():
            if self._tried is not self.network:
                self.try_on(images)
            scores = self.score_logits(checked_logits(self.network, images.clone()))
        if scores.isnan().any():
            raise InputError(
                f"The score of {type(self.network).__name__} is NaN for {scores.isnan().sum()} of {len(scores)} "
                "images: one number an image is needed."
            )
        return scores

    def raw_score(self, images: Tensor) -> Tensor:
        """Differentiable scores of any images, such as noisy ones beyond [0, 1], in the logits' type, float32 at least.

        In float32 the softmax of confident logits is 1: rank images by `score`, or by `score_logits`.

        Args:
            images: Float tensor [N, C, H, W]. It is not changed.

        Returns:
            Scores [N].

        Raises:
            InputError: The logits have another shape than [N, K] or are not finite.
        """
        logits = checked_logits(self.network, images.clone())
        return self._scores(logits.to(torch.promote_types(logits.dtype, torch.float32)))

    def score_logits(self, logits: Tensor) -> Tensor:
        """The scores of logits.

        Args:
            logits: [N, K], of any floating-point type.

        Returns:
            Scores [N], in float64.

        Raises:
            InputError: The score fails, or gives something else than one real number a row.
        """
        return self._scores(logits.double()).double()

    def try_on(self, images: Tensor) -> None:
        """Tries the network on the first image.

        Args:
            images: Float tensor [N, C, H, W] in [0, 1], on the network's device.

        Raises:
            InputError: The network fails, what it gives for an image depends on the others of a batch, it has one
                output alone, or it gives probabilities to a score that takes a softmax.
        """
        try_network(self.network, images, self._judge)
        self._tried = self.network

    def _judge(self, network: nn.Module, images: Tensor, logits: Tensor) -> None:
        """Refuses logits of which the score makes no sense."""
        named = self.score_of in SCORES.values()
        if named and logits.shape[1] == 1:
            raise InputError(f"{type(network).__name__} has one output: {TWO_LOGITS}.")
        if named and self.score_of is not SCORES["max_logit"]:
            refuse_probabilities(network, images, logits)
        self.score_logits(logits[:1])

    def _scores(self, logits: Tensor) -> Tensor:
        """The scores [N] of logits as the score computes them; InputError where it gives something else."""
        count = len(logits)
        try:
            scores = self.score_of(logits)
        except InputError:
            raise
        except Exception as error:  # it is any code
            if is_out_of_memory(error):
                raise
            raise InputError(
                f"The score fails on {logits.dtype} logits {tuple(logits.shape)}: {type(error).__name__} {error}. "
                "Numbers of its own must be of their type."
            ) from error
        if not isinstance(scores, Tensor) or scores.is_complex() or scores.dtype == torch.bool:
            kind = scores.dtype if isinstance(scores, Tensor) else type(scores).__name__
            raise InputError(f"The score gave {kind} for {count} images: one real number an image is needed.")
        if scores.shape not in ((count,), (count, 1)):
            raise InputError(f"The score gave {tuple(scores.shape)} for {count} images: one number an image is needed.")
        return scores.reshape(count)
