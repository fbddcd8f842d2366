"""The networks of a method, composed of its components: as it is smoothed, and as it is deployed."""

from collections.abc import Callable, Mapping

from torch import nn

from oodcert.config.method_specs import MethodSpec
from oodcert.models.wrappers import DenoisedNetwork, JointNetwork, NoisyNetwork


def smoothed_network(
    method_spec: MethodSpec, components: Mapping[str, nn.Module], sigma: float, num_classes: int
) -> nn.Module:
    """The network whose score is smoothed with N(0, sigma² I): the whole network sees the noisy image.

    Args:
        method_spec: Which classifier the method has, and whether it has a denoiser and a discriminator.
        components: Name -> trained module.
        sigma: Standard deviation of the noise, in the [0, 1] pixel scale.
        num_classes: K.

    Returns:
        The network in evaluation mode, from noisy images [N, C, H, W] to logits.
    """
    return _assemble(method_spec, components, num_classes, lambda classifier: _denoised(classifier, components, sigma))


def deployed_network(
    method_spec: MethodSpec, components: Mapping[str, nn.Module], sigma: float, num_classes: int
) -> nn.Module:
    """The network as it runs on an image: a denoised classifier adds N(0, sigma² I) noise to its input itself.

    The discriminator sees the image without noise, so its interval bound holds whatever the denoiser does (the
    paper's framework figure).

    Args:
        method_spec: Which classifier the method has, and whether it has a denoiser and a discriminator.
        components: Name -> trained module.
        sigma: Standard deviation of the noise, in the [0, 1] pixel scale.
        num_classes: K.

    Returns:
        The network in evaluation mode, from images [N, C, H, W] in [0, 1] to logits.
    """
    return _assemble(
        method_spec,
        components,
        num_classes,
        lambda classifier: NoisyNetwork(_denoised(classifier, components, sigma), sigma),
    )


def _denoised(classifier: nn.Module, components: Mapping[str, nn.Module], sigma: float) -> DenoisedNetwork:
    return DenoisedNetwork(classifier, components["denoiser"], sigma)


def _assemble(
    method_spec: MethodSpec,
    components: Mapping[str, nn.Module],
    num_classes: int,
    denoise: Callable[[nn.Module], nn.Module],
) -> nn.Module:
    network = components[method_spec.classifier]
    if method_spec.denoiser:
        network = denoise(network)
    if method_spec.discriminator:
        network = JointNetwork(network, components["discriminator"], num_classes)
    return network.eval()
