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
    odds = _log_odds(detector, logits)
    if detector.score_of is SCORES["msp"]:
        return logsigmoid(odds).logsumexp(0) - logsigmoid(-odds).logsumexp(0)
    if detector.score_of is SCORES["atom"]:
        return _log_softplus(odds).logsumexp(0)
    return odds.mean(0)


def smoothed_objective(detector: Detector, logits: Tensor) -> Tensor:
    """Values that rise with the detector's smoothed score, its median as its mean over noise draws.

    They are the mean over the draws of the log-odds a_i of mean_objective, or of another score as it is. A score is an
    increasing function of the log-odds, so the median score is that function of their median, and their mean is near
    their median. The mean score itself is a poor guide: draws near 0 or 1 hardly move it, though every one of them has
    its say in the median.

    Args:
        detector: Its score decides on the values; its network is not called.
        logits: [m, N, K], of m draws.

    Returns:
        Values [N].
    """
    return _log_odds(detector, logits).mean(0)


def _log_odds(detector: Detector, logits: Tensor) -> Tensor:
    """Log-odds [m, N] of the maximum (msp) or of all classes but the last (atom); other scores as they are."""
    if detector.score_of is SCORES["msp"]:
        ordered = logits.sort(2, descending=True).values
        return ordered[..., 0] - ordered[..., 1:].logsumexp(2)
    if detector.score_of is SCORES["atom"]:
        return logits[..., :-1].logsumexp(2) - logits[..., -1]
    return detector.score_of(logits.flatten(0, 1)).unflatten(0, logits.shape[:2])


def _log_softplus(odds: Tensor) -> Tensor:
    """log softplus(odds); below -15 softplus is the exponential up to 2e-7."""
    return torch.where(odds < -15, odds, softplus(odds.clamp(min=-15)).log())
