"""logitnorm: cross-entropy on normalised logits (Wei et al. 2022)."""

from dataclasses import replace

from torch.nn.functional import cross_entropy, normalize

from oodcert.training.loop import fit_classifier

SETTINGS = {"temperature": "positive"}

SHORTEST = 1e-7  # norm below which logits count as this long


def logitnorm_loss(logits, labels, temperature):
    """Mean cross-entropy of logits / (temperature · ‖logits‖₂): the LogitNorm loss (Wei et al. 2022, section 3).

    logits: [N, K]; labels: int64 [N]; temperature: τ > 0, the paper's 0.04. The length of the logits is without effect:
    a network can't lower this loss by growing more confident alone.
    """
    return cross_entropy(normalize(logits.float(), dim=1, eps=SHORTEST) / temperature, labels)


def train(network, parts, data, settings, **run):
    """The network's own logits are not normalised: their length, larger on ID images, is what detectors use."""

    def loss(batch):
        return {"id": logitnorm_loss(network(batch.images), batch.labels, settings["temperature"])}

    return fit_classifier(network, loss, replace(data, outliers=data.outliers[:0]), settings, **run)
