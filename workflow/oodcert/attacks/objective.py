"""What attacks on a detector ascend: its score, or an increasing function of it that floating point resolves."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from oodcert.models.detector import Detector
from oodcert.models.scores import SCORES


def mean_objective(detector: Detector, logits: Tensor) -> Tensor:
    """Values that order images as the detector's mean score over noise draws does.

    In float32 a maximum softmax probability is flat near 1, and the atom score near 0: no step would be seen to raise
    them. Let a_i be the log-odds of draw i's maximum (msp), or of all classes but the last (atom). Then the mean scores
    are those of sigmoid(a_i) and of softplus(a_i). The values are the log-odds of the first and the logarithm of the
    second, plus constants, computed in the log domain. Other scores are averaged as they are.

    Args:
        detector: Its score decides on the values; its network is not called.
        logits: [m, N, K], of m draws.

    Returns:
        Values [N].
    """
    if detector.score_of is SCORES["msp"]:
        ordered = logits.sort(2, descending=True).values
        odds = ordered[..., 0] - ordered[..., 1:].logsumexp(2)
        return logsigmoid(odds).logsumexp(0) - logsigmoid(-odds).logsumexp(0)
    if detector.score_of is SCORES["atom"]:
        return _log_softplus(logits[..., :-1].logsumexp(2) - logits[..., -1]).logsumexp(0)
    return detector.score_of(logits.flatten(0, 1)).unflatten(0, logits.shape[:2]).mean(0)


def _log_softplus(odds: Tensor) -> Tensor:
    """log softplus(odds); below -15 softplus is the exponential up to 2e-7."""
    return torch.where(odds < -15, odds, softplus(odds.clamp(min=-15)).log())
