"""vos: virtual outlier synthesis (Du et al. 2022)."""

from dataclasses import replace

import torch
from scipy.special import gammainccinv
from torch import nn
from torch.nn.functional import cross_entropy, normalize, one_hot, softplus

from oodcert.errors import InputError
from oodcert.training.loop import fit_classifier

SETTINGS = {"queue": "count", "start": "share", "candidates": "count", "energy_weight": "nonnegative"}

JITTER = 1e-4  # added to the covariance's diagonal, for features without variance


def virtual_outliers(features, candidates, generator):
    """The least likely of `candidates` draws from every class's Gaussian: [K, D] (Du et al. 2022, section 3.1).

    features: [K, Q, D], Q of each class. The Gaussians have the classes' means and one covariance, tied over the
    classes, of Cholesky factor L. The candidates need not be drawn: mean + L n with standard normal n is the less
    likely the longer n is, and n's direction does not depend on its length. So the direction is drawn, and the squared
    length as the largest of that many chi-squared variables: their quantile function at U^(1 / candidates).
    generator: on the CPU. Raises InputError where the covariance has no Cholesky factor.
    """
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        classes, _, size = features.shape
        means = features.double().mean(1)
        centred = (features - means[:, None]).flatten(0, 1)
        covariance = centred.T @ centred / len(centred) + JITTER * torch.eye(size, device=features.device)
        direction = normalize(torch.randn(classes, size, generator=generator, dtype=torch.float64), dim=1)
        uniform = torch.rand(classes, 1, generator=generator, dtype=torch.float64)
        above = -torch.expm1(uniform.log() / candidates)  # 1 - U^(1 / candidates)
        length = torch.from_numpy(2 * gammainccinv(size / 2, above.numpy())).sqrt()
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if failed:
            raise InputError(
                "The features of the classes have no Gaussian: their covariance is not finite or too uneven. Training "
                "diverges: lower this part's learning_rate in the config."
            )
        steps = (length * direction).to(features.device) @ factor.T
        return (means + steps).to(features.dtype)


def energy_loss(inside, outside):
    """Logistic loss between ID and virtual outliers, from the logits of "ID", in scalars (Du et al. 2022, section 3.2).

    inside: [N], outside: [M]. Both kinds count alike, however many there are.
    """
    return softplus(-inside).mean() + softplus(outside).mean()


class VirtualOutlierLoss(nn.Module):
    """Cross-entropy, "id", and from the share `start` of the epochs on energy_weight times `energy_loss`, "outliers".

    The logit of "ID" is scale · log Σ_k w_k exp f_k + shift, linear in the negative energy. w_k > 0, scale > 0 and the
    shift are trained along, from 1, 1 and 0 on; the published code leaves the scale's sign free, which lets training
    turn the energy round. The features, the inputs of the network's last layer, wait in a queue of the `queue` latest
    of each class; "outliers" is there once all queues are full.

    On features that are Gaussian as assumed, with classes of equal size, the energy loss can't fall below chance,
    2 log 2: the negative energy is convex in them, so its mean can only grow with the distance from the class's mean.
    """

    def __init__(self, network, queue, start, candidates, energy_weight):
        super().__init__()
        self.network, self.start, self.candidates, self.energy_weight = network, start, candidates, energy_weight
        head = network[-1]
        self.register_buffer("queue", torch.zeros(head.out_features, queue, head.in_features))
        self.register_buffer("seen", torch.zeros(head.out_features, dtype=torch.int64))
        self.log_weights = nn.Parameter(torch.zeros(head.out_features))
        self.log_scale, self.shift = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        features = self.network[:-1](batch.images)
        logits = self.network[-1](features)
        self.enqueue(features.detach(), batch.labels)
        terms = {"id": cross_entropy(logits, batch.labels)}
        if batch.progress >= self.start and bool((self.seen >= self.queue.shape[1]).all()):
            outliers = self.network[-1](virtual_outliers(self.queue, self.candidates, batch.generator))
            terms["outliers"] = self.energy_weight * energy_loss(self.id_logit(logits), self.id_logit(outliers))
        return terms

    def id_logit(self, logits):
        """The logit of "ID" [N] of the classes' logits [N, K]."""
        return self.log_scale.exp() * (logits.float() + self.log_weights).logsumexp(1) + self.shift

    def enqueue(self, features, labels):
        """Puts features [N, D] in the places of the oldest ones of their classes."""
        classes, size, _ = self.queue.shape
        counts = one_hot(labels, classes).cumsum(0)
        place = self.seen[labels] + counts.gather(1, labels[:, None])[:, 0] - 1
        self.seen += counts[-1]
        stay = place >= self.seen[labels] - size
        self.queue[labels[stay], place[stay] % size] = features[stay].to(self.queue.dtype)


def train(network, parts, data, settings, **run):
    """Raises InputError where a class's images are too few to fill its queue in all epochs together."""
    own = {key: settings[key] for key in SETTINGS}
    loss = VirtualOutlierLoss(network, **own).to(data.images.device)
    fewest = data.labels.bincount(minlength=len(loss.queue)).min().item() * settings["epochs"]
    if fewest < settings["queue"]:
        raise InputError(
            f"A class has {fewest} features in all epochs, but a queue of {settings['queue']} must be filled before "
            "virtual outliers can be drawn: lower this part's queue in the config, or give every class more images."
        )
    return fit_classifier(network, loss, replace(data, outliers=data.outliers[:0]), settings, **run)
