"""A detector: a network and a score."""

import torch

from oodcert.errors import InputError
from oodcert.models.checks import check_images, checked_logits
from oodcert.models.scores import SCORES, UNBOUNDED_SCORES


class Detector:
    """Scores images with a network: **higher = more in-distribution**.

    network: any nn.Module from images [N, C, H, W] in [0, 1] to logits [N, K]; it is put in evaluation mode.
    score: "msp" (maximum softmax probability, in [1/K, 1]), "energy" (logsumexp of the logits), "max_logit", "atom"
    (minus the log-probability of the last class, for networks with a class K + 1 of outliers; Chen et al. 2021), or a
    callable from logits [N, K] to [N]. All but msp are unbounded; a callable may be either.
    """

    def __init__(self, network, score="msp"):
        if not callable(score) and score not in SCORES:
            raise InputError(f"Unknown score {score!r}: use one of {', '.join(SCORES)} or a callable of the logits.")
        self.network = network.eval()
        self.score_of = score if callable(score) else SCORES[score]
        self.unbounded = score in UNBOUNDED_SCORES

    def score(self, images):
        """Scores [N] of images [N, C, H, W] in [0, 1]. Raises InputError on other images or on NaN logits."""
        check_images(images)
        self.network.eval()
        with torch.inference_mode():
            return self.raw_score(images)

    def raw_score(self, images):
        """Differentiable scores [N] of any images [N, C, H, W], such as noisy ones outside [0, 1]."""
        return self.score_of(checked_logits(self.network, images))
