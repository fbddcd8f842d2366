"""How the configuration composes a method: a classifier, with or without discriminator and denoiser, and a score."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from oodcert.config.components import declared_component
from oodcert.runtime.settings import Expects, Text, Truth

UNBOUNDED_SCORES = ("energy", "max_logit", "atom")  # scores without a range; the others lie in [0, 1]
RANGE_FREE_BOUNDS = ("percentile", "vote")  # l2 bounds of any score; the others need a score in [0, 1]
JOINT_EVALUATIONS = ("certify_l2", "one_pass", "certify_id")  # one job does these for all joint methods
Score = Literal["msp", "energy", "max_logit", "atom"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class MethodSpec:
    """What a method is made of. Components are named as their training files, or as entries of `imports`."""

    classifier: Annotated[Text, Field(description="The component that classifies."), Expects("the name of a component")]
    discriminator: Annotated[
        Truth,
        Field(description="Whether a discriminator scales the confidence (ProoD)."),
        Expects("true or false: whether a discriminator scales the confidence (ProoD)"),
    ]
    denoiser: Annotated[
        Truth,
        Field(description="Whether noise and a denoiser come before the classifier."),
        Expects("true or false: whether noise and a denoiser come before the classifier"),
    ]
    score: Annotated[Score, Field(description="The score of the detector."), Expects("msp, energy, max_logit or atom")]

    @property
    def components(self) -> list[str]:
        """Names of the components, the classifier first."""
        optional = (("discriminator", self.discriminator), ("denoiser", self.denoiser))
        return [self.classifier, *(name for name, used in optional if used)]

    @property
    def is_randomised(self) -> bool:
        """Whether the method adds noise to its input when it is deployed."""
        return self.denoiser

    @property
    def is_unbounded(self) -> bool:
        """Whether the score has no range."""
        return self.score in UNBOUNDED_SCORES

    def admitted_bounds(self, bounds: Iterable[str]) -> list[str]:
        """Those of the l2 bounds that the score admits: bounds on a mean need a score in [0, 1].

        Args:
            bounds: names of l2 bounds.

        Returns:
            Names of the admitted ones, in the same order.
        """
        return [bound for bound in bounds if bound in RANGE_FREE_BOUNDS or not self.is_unbounded]

    def as_json(self) -> dict[str, Any]:
        """The spec as the configuration writes it."""
        return {key: getattr(self, key) for key in ("classifier", "discriminator", "denoiser", "score")}


class Recipes(Protocol):
    """The recipe of each trained component, by its name."""

    def __getitem__(self, component: str, /) -> Any: ...


def needed_components(component: str, training: Recipes) -> list[str]:
    """Names of the components that must be trained before this one: those it declares, and the one it starts from.

    Args:
        component: name of a trained component.
        training: recipes by component, the config's entry.

    Returns:
        The names; they may need others in turn.
    """
    start = training[component].start_from
    return [*declared_component(component).needs, *([start] if start else [])]


def trained_components(
    methods: Mapping[str, MethodSpec], training: Recipes, imported: Collection[str] = ()
) -> list[str]:
    """Names of all components to be trained for these methods, each after those that it needs.

    Args:
        methods: method specs by name.
        training: recipes by component.
        imported: names of components that are not trained.

    Returns:
        The names, each once.
    """
    names: dict[str, None] = {}

    def add(component: str) -> None:
        if component in imported:
            return
        for needed in needed_components(component, training):
            add(needed)
        names[component] = None

    for spec in methods.values():
        for component in spec.components:
            add(component)
    return list(names)


def joint_methods(methods: Mapping[str, MethodSpec]) -> list[str]:
    """Names of the methods that are certified in one job, with one pass through their denoiser: two or more, or none.

    They are those behind the denoiser whose scores are in [0, 1], for all of these admit the same bounds.

    Args:
        methods: method specs by name.

    Returns:
        The names, in the order of the methods; empty unless there are two or more.
    """
    names = [name for name, spec in methods.items() if spec.denoiser and not spec.is_unbounded]
    return names if len(names) > 1 else []


def computed_with(evaluation: str, method: str, methods: Mapping[str, MethodSpec]) -> Sequence[str]:
    """Names of the methods of the job that computes an evaluation of this method, itself among them."""
    group = joint_methods(methods) if evaluation in JOINT_EVALUATIONS else []
    return group if method in group else [method]
