"""What attacks on a detector ascend: its score, or an increasing function of it that floating point resolves."""

import torch
from torch.nn.functional import logsigmoid, softplus

from oodcert.models.scores import SCORES


def mean_objective(detector, logits):
    """Values [N] that order images as the detector's mean score over the draws of logits [m, N, K] does.

    In float32 a maximum softmax probability is flat near 1, and atom's score near 0: no step would be seen to raise
    them. With a_i the log-odds of draw i's maximum (msp), or of all classes but the last (atom), the mean scores are
    those of sigmoid(a_i) and of softplus(a_i); returned are the log-odds of the first and the logarithm of the second
    (plus constants), computed in the log domain. Other scores are averaged as they are.
    """
    if detector.score_of is SCORES["msp"]:
        ordered = logits.sort(2, descending=True).values
        odds = ordered[..., 0] - ordered[..., 1:].logsumexp(2)
        return logsigmoid(odds).logsumexp(0) - logsigmoid(-odds).logsumexp(0)
    if detector.score_of is SCORES["atom"]:
        return _log_softplus(logits[..., :-1].logsumexp(2) - logits[..., -1]).logsumexp(0)
    return detector.score_of(logits.flatten(0, 1)).unflatten(0, logits.shape[:2]).mean(0)


def _log_softplus(odds):
    """log softplus(odds); below -15 softplus is the exponential up to 2e-7."""
    return torch.where(odds < -15, odds, softplus(odds.clamp(min=-15)).log())
