"""Networks built from networks: joint, denoised, noisy, and cut to the classes."""

from contextlib import contextmanager
from math import log

import torch
from torch import nn
from torch.nn.functional import logsigmoid

from oodcert.errors import InputError
from oodcert.models.checks import checked_logits


class JointNetwork(nn.Module):
    """ProoD's joint model (Meinke et al. 2022): p(y|x) = p(y|x, i) p(i|x) + (1 - p(i|x)) / K.

    classifier: images to logits [N, K]; discriminator: images to one logit [N] or [N, 1] of p(i|x).
    Forward gives log p(y|x) [N, K], computed in the log domain; each row's exponentials sum to one.
    """

    def __init__(self, classifier, discriminator, num_classes):
        super().__init__()
        self.classifier, self.discriminator, self.num_classes = classifier, discriminator, num_classes

    def forward(self, images):
        logits, inside = _exact(self.classifier(images)), _exact(self.discriminator(images).reshape(-1, 1))
        if logits.shape[1] != self.num_classes:
            raise InputError(
                f"The joint network was built for {self.num_classes} classes, its classifier gives "
                f"{logits.shape[1]} logits: pass num_classes={logits.shape[1]}, or the classifier that belongs to it."
            )
        return joint_log_probabilities(logits, inside, self.num_classes)


def _exact(logits):
    """In float32 at least: autocast would leave part of the joint probability to bfloat16."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def joint_log_probabilities(logits, inside, num_classes):
    """log p(y|x) [N, K] of JointNetwork from logits [N, K] and the discriminator's [N, 1]; the mass of the second term
    is spread over num_classes."""
    known = logits.log_softmax(1) + logsigmoid(inside)
    return torch.logaddexp(known, logsigmoid(-inside) - log(num_classes))


class ClassLogits(nn.Module):
    """The logits of the first num_classes classes [N, num_classes]: labels as a network with a class of outliers
    beside them gives them."""

    def __init__(self, network, num_classes):
        super().__init__()
        self.network, self.num_classes = network, num_classes

    def forward(self, images):
        return self.network(images)[:, : self.num_classes]


class DenoisedNetwork(nn.Module):
    """Denoises once, then classifies (Carlini et al. 2023). Adds no noise: its input is meant to be noisy already.

    denoiser: callable (noisy [N, C, H, W], sigma) -> denoised images in [0, 1]; sigma: noise level in the [0, 1]
    pixel scale.
    """

    def __init__(self, network, denoiser, sigma):
        super().__init__()
        self.network, self.denoiser, self.sigma, self._stand_in = network, denoiser, sigma, None

    @contextmanager
    def denoising_by(self, denoise):
        """Within it, denoise(noisy, sigma) takes the place of the denoiser."""
        self._stand_in = denoise
        try:
            yield
        finally:
            self._stand_in = None

    def forward(self, noisy):
        return self.network((self._stand_in or self.denoiser)(noisy, self.sigma))


class NoisyNetwork(nn.Module):
    """Adds fresh N(0, sigma² I) noise to its input at every pass: the randomised form of a network.

    Inside `with network.replay(noise):` passes use the given standard normal noise, of the images' shape, instead.
    """

    def __init__(self, network, sigma):
        super().__init__()
        self.network, self.sigma, self._noise = network, sigma, None

    @contextmanager
    def replay(self, noise):
        self._noise = noise
        try:
            yield
        finally:
            self._noise = None

    def forward(self, images):
        noise = torch.randn_like(images) if self._noise is None else self._noise
        return self.network(images + self.sigma * noise)


def noisy_parts(network):
    """The NoisyNetworks inside a network: empty for a deterministic one."""
    return [module for module in network.modules() if isinstance(module, NoisyNetwork)]


def replayed_logits(network, images, noise):
    """Logits [m, N, K] of a randomised network, for each of the noise draws [m, N, C, H, W] in place of fresh noise."""
    (noisy,) = noisy_parts(network)
    with noisy.replay(noise.flatten(0, 1)):
        return checked_logits(network, images.repeat(len(noise), 1, 1, 1)).unflatten(0, (len(noise), -1))
