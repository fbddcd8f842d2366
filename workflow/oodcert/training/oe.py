"""oe: outlier exposure (Hendrycks et al. 2019)."""

import torch
from torch.nn.functional import nll_loss

from oodcert.training.loop import fit_classifier


def outlier_exposure_loss(log_probabilities, labels, weight):
    """Cross-entropy on the first len(labels) rows plus weight times the cross-entropy to uniform on the others.

    log_probabilities: [N + M, K], ID rows first, outlier rows after them.
    """
    inside, outside = log_probabilities.split([len(labels), len(log_probabilities) - len(labels)])
    return nll_loss(inside, labels) - weight * outside.mean()


def train(network, parts, data, settings, seed):
    def loss(images, labels, outliers, _):
        outputs = network(torch.cat([images, outliers])).log_softmax(1)
        return outlier_exposure_loss(outputs, labels, settings["outlier_weight"])

    return fit_classifier(network, loss, data, settings, seed)
