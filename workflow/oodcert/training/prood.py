"""prood: the classifier of ProoD, trained semi-jointly with a fixed discriminator (Meinke et al. 2022)."""

import torch

from oodcert.detector import JointNetwork
from oodcert.training.loop import fit_classifier
from oodcert.training.oe import outlier_exposure_loss


def train(network, parts, data, settings, seed):
    discriminator = parts["discriminator"].to(data[0].device).requires_grad_(False)

    def loss(images, labels, outliers, _):
        batch = torch.cat([images, outliers])
        logits = network(batch)
        joint = JointNetwork(lambda _: logits, discriminator, logits.shape[1])
        return outlier_exposure_loss(joint(batch), labels, settings["outlier_weight"])

    return fit_classifier(network, loss, data, settings, seed)
