"""The methods: which trained parts each one needs, and how its network is put together from them."""

from oodcert.errors import InputError

# part: the parts that must be trained before it
PARTS = {"plain": (), "oe": (), "discriminator": (), "prood": ("discriminator",), "denoiser": ()}

# method: the parts it is made of, the classifier first
METHODS = {
    "plain": ("plain",),
    "oe": ("oe",),
    "prood": ("prood", "discriminator"),
    "distro": ("prood", "discriminator", "denoiser"),
}


def parts_of(method):
    """Names of the trained parts of a method. Raises InputError on an unknown method."""
    if method not in METHODS:
        raise InputError(f"Unknown method {method!r} under `methods` in the config: use {', '.join(METHODS)}.")
    return METHODS[method]


def is_randomised(method):
    """Whether the method adds noise of its own when it is deployed."""
    return "denoiser" in parts_of(method)


def smoothed_network(method, parts, sigma, num_classes):
    """The network whose score is smoothed with N(0, sigma² I): the whole network sees the noisy image.

    parts: name -> trained module.
    """
    return _assemble(method, parts, num_classes, lambda classifier: _denoised(classifier, parts, sigma))


def deployed_network(method, parts, sigma, num_classes):
    """The network as it runs on an image: a denoised classifier adds N(0, sigma² I) noise to its own input.

    The discriminator sees the raw image, so its interval bound holds whatever the denoiser does (the paper's
    framework figure).
    """
    from oodcert.detector import NoisyNetwork

    return _assemble(
        method, parts, num_classes, lambda classifier: NoisyNetwork(_denoised(classifier, parts, sigma), sigma)
    )


def _denoised(classifier, parts, sigma):
    from oodcert.detector import DenoisedNetwork

    return DenoisedNetwork(classifier, parts["denoiser"], sigma)


def _assemble(method, parts, num_classes, denoise):
    from oodcert.detector import JointNetwork

    names = parts_of(method)
    network = parts[names[0]]
    if "denoiser" in names:
        network = denoise(network)
    if "discriminator" in names:
        network = JointNetwork(network, parts["discriminator"], num_classes)
    return network.eval()
