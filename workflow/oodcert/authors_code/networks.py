"""The networks as the authors' code builds and runs them (D8, D9, D13, D17), and their scores (D22)."""

from __future__ import annotations

from collections.abc import Mapping, Set
from math import prod, sqrt

from torch import Tensor, nn

from oodcert.authors_code.flags import CLASSES
from oodcert.config.method_specs import MethodSpec
from oodcert.errors import InputError
from oodcert.models.detector import Detector
from oodcert.models.scores import SCORES
from oodcert.models.wrappers import DenoisedNetwork, JointNetwork, NoisyNetwork, joint_log_probabilities


class MisbuiltJointNetwork(nn.Module):
    """A JointNetwork that spreads its second term over CLASSES, however many its classifier has (D13).

    Forward gives logarithms [N, K] whose exponentials sum to p(i|x) + (1 - p(i|x)) K / CLASSES.

    Args:
        classifier: images [N, C, H, W] to logits [N, K].
        discriminator: images to logits of being in-distribution, [N] or [N, 1].
    """

    def __init__(self, classifier: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.classifier, self.discriminator = classifier, discriminator

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K] of images [N, C, H, W]."""
        return joint_log_probabilities(self.classifier(images), self.discriminator(images).reshape(-1, 1), CLASSES)


def network(
    method_spec: MethodSpec,
    components: Mapping[str, nn.Module],
    sigma: float,
    num_classes: int,
    protocol: Set[str],
    noisy: bool,
) -> nn.Module:
    """A method's network under a protocol.

    In the authors' code the denoiser stands before the discriminator too (D9), and a joint model is built for CLASSES
    classes (D13).

    Args:
        method_spec: what the method is made of.
        components: its networks by name.
        sigma: noise that a denoiser is told of, in the pixel scale [0, 1].
        num_classes: ID classes.
        protocol: the flags that are as the authors' code has them.
        noisy: whether it adds N(0, sigma² I) noise to its own input, as it is deployed. Otherwise its input is noisy
            already.

    Returns:
        A module of its own. What passes through it can be counted apart from what passes through other networks of the
        same components.
    """

    def denoise(inner: nn.Module) -> nn.Module:
        if not method_spec.denoiser:
            return inner
        denoised = DenoisedNetwork(inner, components["denoiser"], sigma)
        return NoisyNetwork(denoised, sigma) if noisy else denoised

    def join(inner: nn.Module) -> nn.Module:
        if not method_spec.discriminator:
            return inner
        if "D13" in protocol:
            return MisbuiltJointNetwork(inner, components["discriminator"])
        return JointNetwork(inner, components["discriminator"], num_classes)

    classifier = components[method_spec.classifier]
    return nn.Sequential(denoise(join(classifier)) if "D9" in protocol else join(denoise(classifier))).eval()


def detector(network: nn.Module, score: str, protocol: Set[str]) -> Detector:
    """A Detector of the network. In the authors' code an energy score is negated (D22).

    Args:
        network: images [N, C, H, W] to logits [N, K].
        score: name of the method's score.
        protocol: the flags that are as the authors' code has them.

    Returns:
        The Detector.
    """
    reverse = score == "energy" and "D22" in protocol
    return Detector(network, _negated_energy if reverse else score)


def deployed_sigma(sigma: float, components: Mapping[str, nn.Module], protocol: Set[str]) -> float:
    """The noise at which a method is scored and attacked: sigma, or in the authors' code the denoiser's lowest (D8).

    Args:
        sigma: noise of the deployed method, in the pixel scale [0, 1].
        components: the method's networks by name.
        protocol: the flags that are as the authors' code has them.

    Returns:
        A standard deviation in the pixel scale [0, 1].

    Raises:
        InputError: if that lowest noise is needed and the denoiser has no noise schedule.
    """
    return lowest_sigma(components["denoiser"]) if "D8" in protocol and "denoiser" in components else sigma


def label_sigma(
    sigma: float,
    epsilon: float,
    shape: tuple[int, int, int],
    components: Mapping[str, nn.Module],
    protocol: Set[str],
) -> float:
    """The noise at which AutoAttack meets a randomised method.

    It is sigma, or in the authors' code ε√d, but no less than the denoiser's lowest (D17).

    Args:
        sigma: noise of the deployed method, in the pixel scale [0, 1].
        epsilon: l-infinity radius of the attack, in that scale.
        shape: (C, H, W) of the images, whose product is d.
        components: the method's networks by name, the denoiser among them.
        protocol: the flags that are as the authors' code has them.

    Returns:
        A standard deviation in the pixel scale [0, 1].

    Raises:
        InputError: as deployed_sigma.
    """
    if "D17" not in protocol:
        return sigma
    return max(epsilon * sqrt(prod(shape)), lowest_sigma(components["denoiser"]))


def lowest_sigma(denoiser: nn.Module) -> float:
    """The lowest noise of a diffusion denoiser's schedule, that of t = 0, in the pixel scale [0, 1].

    Args:
        denoiser: one with a noise schedule `alphas_cumprod`.

    Returns:
        A standard deviation in the pixel scale [0, 1].

    Raises:
        InputError: if the denoiser has no noise schedule.
    """
    schedule = getattr(denoiser, "alphas_cumprod", None)
    if schedule is None:
        raise InputError(
            f"{type(denoiser).__name__} has no noise schedule (alphas_cumprod), and the authors' code runs a denoiser "
            "at the lowest noise of it: set evaluation.authors_code to null."
        )
    first = float(schedule[0])
    return 0.5 * sqrt((1 - first) / first) * (1 + 1e-9)  # rounding must not leave the schedule


def _negated_energy(logits: Tensor) -> Tensor:
    return -SCORES["energy"](logits)
