"""The networks of a method, composed of its components: as it is smoothed, and as it is deployed."""

from oodcert.models.wrappers import DenoisedNetwork, JointNetwork, NoisyNetwork


def smoothed_network(method_spec, parts, sigma, num_classes):
    """The network whose score is smoothed with N(0, sigma² I): the whole network sees the noisy image.

    parts: name -> trained module.
    """
    return _assemble(method_spec, parts, num_classes, lambda classifier: _denoised(classifier, parts, sigma))


def deployed_network(method_spec, parts, sigma, num_classes):
    """The network as it runs on an image: a denoised classifier adds N(0, sigma² I) noise to its own input.

    The discriminator sees the raw image, so its interval bound holds whatever the denoiser does (the paper's
    framework figure).
    """
    return _assemble(
        method_spec, parts, num_classes, lambda classifier: NoisyNetwork(_denoised(classifier, parts, sigma), sigma)
    )


def _denoised(classifier, parts, sigma):
    return DenoisedNetwork(classifier, parts["denoiser"], sigma)


def _assemble(method_spec, parts, num_classes, denoise):
    network = parts[method_spec["classifier"]]
    if method_spec["denoiser"]:
        network = denoise(network)
    if method_spec["discriminator"]:
        network = JointNetwork(network, parts["discriminator"], num_classes)
    return network.eval()
