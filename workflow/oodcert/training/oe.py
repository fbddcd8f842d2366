"""oe: outlier exposure (Hendrycks et al. 2019)."""

import torch
from torch.nn.functional import nll_loss

from oodcert.training.loop import fit_classifier

SETTINGS = {"outlier_weight": "nonnegative"}


def outlier_exposure_loss(log_probabilities, labels, weight):
    """Cross-entropy of the first len(labels) rows, "id", and weight times that of the others to uniform, "outliers".

    log_probabilities: [N + M, K], ID rows first, outlier rows after them.
    """
    inside, outside = log_probabilities.split([len(labels), len(log_probabilities) - len(labels)])
    return {"id": nll_loss(inside, labels), "outliers": -weight * outside.mean()}


def train(network, parts, data, settings, **run):
    def loss(batch):
        outputs = network(torch.cat([batch.images, batch.outliers])).log_softmax(1)
        return outlier_exposure_loss(outputs, batch.labels, settings["outlier_weight"])

    return fit_classifier(network, loss, data, settings, **run)
