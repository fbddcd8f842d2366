"""The methods, as the config composes them: a classifier, with or without a discriminator and a denoiser, and a score.

composition: an entry of the config's `methods`, {"classifier": part, "discriminator": bool, "denoiser": bool,
"score": name}.
"""

from oodcert.certification import UNBOUNDED_SCORES, WITHOUT_RANGE
from oodcert.parts import declared

TOGETHER = ("certify_l2", "certify_id")  # evaluations that one job does of all methods of `together`


def parts_of(composition):
    """Names of the trained parts that a method is made of, the classifier first."""
    return [composition["classifier"], *(name for name in ("discriminator", "denoiser") if composition[name])]


def needed_parts(part, training):
    """Names of the parts that must be trained before a part: those it declares, and the one it starts from.

    training: the config's entry.
    """
    start = training[part]["start_from"]
    return [*declared(part).needs, *([start] if start else [])]


def trained_parts(methods, training, imported=()):
    """Names of all parts to be trained for these methods (name -> composition), each after those that it needs.

    imported: names of parts that are not trained.
    """
    found = {}
    for part in (part for composition in methods.values() for part in parts_of(composition)):
        found |= dict.fromkeys(_chain(part, training, imported))
    return list(found)


def _chain(part, training, imported):
    if part in imported:
        return []
    return [*(name for needed in needed_parts(part, training) for name in _chain(needed, training, imported)), part]


def is_randomised(composition):
    """Whether the method adds noise of its own when it is deployed."""
    return composition["denoiser"]


def together(methods):
    """Names of the methods (name -> composition) that are certified in one job, with one pass through their denoiser.

    They are those behind the denoiser whose scores are in [0, 1], for all of these admit the same bounds: two or more,
    or none.
    """
    found = [
        name
        for name, composition in methods.items()
        if composition["denoiser"] and composition["score"] not in UNBOUNDED_SCORES
    ]
    return found if len(found) > 1 else []


def computed_with(evaluation, method, methods):
    """Names of the methods that an evaluation of this one is computed with, itself among them, in one job."""
    group = together(methods) if evaluation in TOGETHER else []
    return group if method in group else [method]


def bounds_of(composition, bounds):
    """Those of the l2 bounds that the method's score admits: a mean bound needs a score in [0, 1]."""
    return [bound for bound in bounds if bound in WITHOUT_RANGE or composition["score"] not in UNBOUNDED_SCORES]


def smoothed_network(composition, parts, sigma, num_classes):
    """The network whose score is smoothed with N(0, sigma² I): the whole network sees the noisy image.

    parts: name -> trained module.
    """
    return _assemble(composition, parts, num_classes, lambda classifier: _denoised(classifier, parts, sigma))


def deployed_network(composition, parts, sigma, num_classes):
    """The network as it runs on an image: a denoised classifier adds N(0, sigma² I) noise to its own input.

    The discriminator sees the raw image, so its interval bound holds whatever the denoiser does (the paper's
    framework figure).
    """
    from oodcert.detector import NoisyNetwork

    return _assemble(
        composition, parts, num_classes, lambda classifier: NoisyNetwork(_denoised(classifier, parts, sigma), sigma)
    )


def _denoised(classifier, parts, sigma):
    from oodcert.detector import DenoisedNetwork

    return DenoisedNetwork(classifier, parts["denoiser"], sigma)


def _assemble(composition, parts, num_classes, denoise):
    from oodcert.detector import JointNetwork

    network = parts[composition["classifier"]]
    if composition["denoiser"]:
        network = denoise(network)
    if composition["discriminator"]:
        network = JointNetwork(network, parts["discriminator"], num_classes)
    return network.eval()
