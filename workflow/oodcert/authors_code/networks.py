"""The networks as the authors' code builds and runs them (D8, D9, D13, D17), and their scores (D22)."""

from math import prod, sqrt

from torch import nn

from oodcert.authors_code.flags import CLASSES
from oodcert.errors import InputError
from oodcert.models.detector import Detector
from oodcert.models.scores import SCORES
from oodcert.models.wrappers import DenoisedNetwork, JointNetwork, NoisyNetwork, joint_log_probabilities


class MisbuiltJointNetwork(nn.Module):
    """A JointNetwork that spreads its second term over CLASSES, however many its classifier has (D13).

    Forward gives logarithms [N, K] whose exponentials sum to p(i|x) + (1 - p(i|x)) K / CLASSES.
    """

    def __init__(self, classifier, discriminator):
        super().__init__()
        self.classifier, self.discriminator = classifier, discriminator

    def forward(self, images):
        return joint_log_probabilities(self.classifier(images), self.discriminator(images).reshape(-1, 1), CLASSES)


def network(method_spec, parts, sigma, num_classes, protocol, noisy):
    """A method's network under a protocol; arguments as of oodcert.config.method_specs.

    noisy: it adds N(0, sigma² I) noise to its own input, as it is deployed; otherwise its input is noisy already.
    Published, the denoiser stands before the discriminator too (D9). The network is a module of its own, so that what
    passes through it, and not through others of the same parts, can be counted.
    """

    def denoise(inner):
        if not method_spec["denoiser"]:
            return inner
        denoised = DenoisedNetwork(inner, parts["denoiser"], sigma)
        return NoisyNetwork(denoised, sigma) if noisy else denoised

    def join(inner):
        if not method_spec["discriminator"]:
            return inner
        if "D13" in protocol:
            return MisbuiltJointNetwork(inner, parts["discriminator"])
        return JointNetwork(inner, parts["discriminator"], num_classes)

    classifier = parts[method_spec["classifier"]]
    return nn.Sequential(denoise(join(classifier)) if "D9" in protocol else join(denoise(classifier))).eval()


def detector(network, score, protocol):
    """A Detector; published, an energy score is negated (D22)."""
    reverse = score == "energy" and "D22" in protocol
    return Detector(network, _negated_energy if reverse else score)


def _negated_energy(logits):
    return -SCORES["energy"](logits)


def deployed_sigma(sigma, parts, protocol):
    """The noise at which a method is scored and attacked: sigma, or published the denoiser's lowest (D8)."""
    return lowest_sigma(parts["denoiser"]) if "D8" in protocol and "denoiser" in parts else sigma


def label_sigma(sigma, epsilon, shape, parts, protocol):
    """The noise at which AutoAttack meets a randomised method: sigma, or published ε√d, but no less than the denoiser's
    lowest (D17). shape: (C, H, W)."""
    return max(epsilon * sqrt(prod(shape)), lowest_sigma(parts["denoiser"])) if "D17" in protocol else sigma


def lowest_sigma(denoiser):
    """The lowest noise of a DiffusionDenoiser's schedule, that of t = 0, in the [0, 1] scale."""
    if not hasattr(denoiser, "alphas_cumprod"):
        raise InputError(
            f"{type(denoiser).__name__} has no noise schedule (alphas_cumprod), whose lowest noise the published "
            "protocol runs a denoiser at: set evaluation.published to null."
        )
    first = float(denoiser.alphas_cumprod[0])
    return 0.5 * sqrt((1 - first) / first) * (1 + 1e-9)  # rounding must not leave the schedule
