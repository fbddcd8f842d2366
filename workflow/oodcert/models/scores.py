"""The scores of detectors by name: higher = more in-distribution. Imports no torch."""

from oodcert.config.method_specs import UNBOUNDED_SCORES as UNBOUNDED_SCORES

SCORES = {
    "msp": lambda logits: logits.softmax(1).amax(1),
    "energy": lambda logits: logits.logsumexp(1),
    "max_logit": lambda logits: logits.amax(1),
    "atom": lambda logits: -logits.log_softmax(1)[:, -1],
}
