"""prood: the classifier of ProoD, trained semi-jointly with a fixed discriminator (Meinke et al. 2022)."""

import torch
from torch import nn

from oodcert.models.wrappers import JointNetwork
from oodcert.training.loop import fit_classifier
from oodcert.training.oe import outlier_exposure_loss

SETTINGS = {"outlier_weight": "nonnegative"}
NEEDS = ("discriminator",)


class JointLoss(nn.Module):
    """Outlier exposure of the joint network. A module, so that a checkpoint is tied to its discriminator."""

    def __init__(self, network, discriminator, weight):
        super().__init__()
        self.network, self.discriminator, self.weight = network, discriminator, weight

    def forward(self, batch):
        images = torch.cat([batch.images, batch.outliers])
        logits = self.network(images)
        joint = JointNetwork(lambda _: logits, self.discriminator, logits.shape[1])
        return outlier_exposure_loss(joint(images), batch.labels, self.weight)


def train(network, parts, data, settings, **run):
    """Under too high a learning_rate a class may never be learned, with the term "id" staying high.

    For p(y|x) is at least (1 - p(i|x)) / K, and where p(y|x, i) has fallen far below that, no gradient is left.
    """
    discriminator = parts["discriminator"].to(data.images.device).requires_grad_(False)
    loss = JointLoss(network, discriminator, settings["outlier_weight"])
    return fit_classifier(network, loss, data, settings, **run)
