"""plain: cross-entropy on the ID images."""

from dataclasses import replace

from torch.nn.functional import cross_entropy

from oodcert.training.loop import fit_classifier

SETTINGS = {}


def train(network, parts, data, settings, **run):
    def loss(batch):
        return {"id": cross_entropy(network(batch.images), batch.labels)}

    return fit_classifier(network, loss, replace(data, outliers=data.outliers[:0]), settings, **run)
