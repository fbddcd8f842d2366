"""acet: adversarial confidence enhanced training (Hein et al. 2019)."""

import torch
from torch.nn.functional import cross_entropy

from oodcert.attacks.pgd import monotone_pgd
from oodcert.errors import InputError
from oodcert.training.loop import fit_classifier

SETTINGS = {"epsilon": "nonnegative", "attack_iterations": "count", "outlier_weight": "nonnegative"}


def log_confidence(logits):
    """max_k log p_k [N] of logits [N, K], in [-log K, 0]; the least is the uniform distribution's alone."""
    return logits.log_softmax(1).amax(1)


def acet_loss(logits, labels, weight):
    """Cross-entropy of the first len(labels) rows, "id", and weight times the others' mean log-confidence, "outliers".

    logits: [N + M, K], ID rows first, attacked outliers after them. The objective of Hein et al. (2019, section 4):
    the maximal log-confidence, not the cross-entropy to uniform of outlier exposure; both are least at uniform.
    """
    inside, outside = logits.split([len(labels), len(logits) - len(labels)])
    return {"id": cross_entropy(inside, labels), "outliers": weight * log_confidence(outside).mean()}


def attack(network, objective, images, epsilon, iterations, generator):
    """Images that maximise objective(logits) [N] within ‖x' - x‖∞ ≤ epsilon, x' in [0, 1], found by monotone PGD.

    The start is uniform in the ball, from generator (on the CPU). The network is attacked in evaluation mode, in which
    an image's logits do not depend on the batch, and left in the mode it was in. Raises InputError where the objective
    becomes NaN.
    """
    training = network.training
    network.eval()
    noise = 2 * torch.rand(images.shape, generator=generator) - 1
    start = images + epsilon * noise.to(images.device)
    try:
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 does not resolve such small changes
            attacked, _ = monotone_pgd(lambda x: objective(network(x)), images, start, epsilon, iterations=iterations)
    except InputError as error:
        raise InputError(f"Training diverges: lower this part's learning_rate in the config. {error}") from error
    network.train(training)
    return attacked


def train(network, parts, data, settings, **run):
    """The attack starts from the outliers, where Hein et al. (2019) start from noise."""
    epsilon, iterations = settings["epsilon"], settings["attack_iterations"]

    def loss(batch):
        outliers = attack(network, log_confidence, batch.outliers, epsilon, iterations, batch.generator)
        return acet_loss(network(torch.cat([batch.images, outliers])), batch.labels, settings["outlier_weight"])

    return fit_classifier(network, loss, data, settings, **run)
