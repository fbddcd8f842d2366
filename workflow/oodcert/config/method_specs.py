"""The methods, as the config composes them: a classifier, with or without a discriminator and a denoiser, and a score.

method_spec: an entry of the config's `methods`, {"classifier": part, "discriminator": bool, "denoiser": bool,
"score": name}.
"""

from oodcert.certification import RANGE_FREE_BOUNDS
from oodcert.config.components import declared
from oodcert.models.scores import UNBOUNDED_SCORES

TOGETHER = ("certify_l2", "certify_id")  # evaluations that one job does of all methods of `together`


def components_of(method_spec):
    """Names of the trained parts that a method is made of, the classifier first."""
    return [method_spec["classifier"], *(name for name in ("discriminator", "denoiser") if method_spec[name])]


def needed_components(part, training):
    """Names of the parts that must be trained before a part: those it declares, and the one it starts from.

    training: the config's entry.
    """
    start = training[part]["start_from"]
    return [*declared(part).needs, *([start] if start else [])]


def trained_components(methods, training, imported=()):
    """Names of all parts to be trained for these methods (name -> method_spec), each after those that it needs.

    imported: names of parts that are not trained.
    """
    found = {}
    for part in (part for method_spec in methods.values() for part in components_of(method_spec)):
        found |= dict.fromkeys(_chain(part, training, imported))
    return list(found)


def _chain(part, training, imported):
    if part in imported:
        return []
    return [
        *(name for needed in needed_components(part, training) for name in _chain(needed, training, imported)),
        part,
    ]


def is_randomised(method_spec):
    """Whether the method adds noise of its own when it is deployed."""
    return method_spec["denoiser"]


def together(methods):
    """Names of the methods (name -> method_spec) that are certified in one job, with one pass through their denoiser.

    They are those behind the denoiser whose scores are in [0, 1], for all of these admit the same bounds: two or more,
    or none.
    """
    found = [
        name
        for name, method_spec in methods.items()
        if method_spec["denoiser"] and method_spec["score"] not in UNBOUNDED_SCORES
    ]
    return found if len(found) > 1 else []


def computed_with(evaluation, method, methods):
    """Names of the methods that an evaluation of this one is computed with, itself among them, in one job."""
    group = together(methods) if evaluation in TOGETHER else []
    return group if method in group else [method]


def bounds_of(method_spec, bounds):
    """Those of the l2 bounds that the method's score admits: a mean bound needs a score in [0, 1]."""
    return [bound for bound in bounds if bound in RANGE_FREE_BOUNDS or method_spec["score"] not in UNBOUNDED_SCORES]
