"""All evaluations by name. A new one needs its file and a line here (docs/extending.md). Imports no torch."""

from __future__ import annotations

from oodcert.config.models import Config
from oodcert.evaluations import (
    attack_id,
    attack_l2,
    attack_linear,
    attack_linf,
    authors_code,
    certify_id,
    certify_l2,
    clean,
    guarantee_linf,
    one_pass,
    sanity,
)
from oodcert.evaluations.spec import EvaluationSpec

EVALUATIONS: dict[str, EvaluationSpec] = {
    module.SPEC.name: module.SPEC
    for module in (
        clean,
        guarantee_linf,
        attack_linf,
        sanity,
        certify_l2,
        attack_l2,
        one_pass,
        certify_id,
        attack_id,
        authors_code,
        attack_linear,
    )
}


def evaluations_of(config: Config) -> dict[str, EvaluationSpec]:
    """Those of a config: authors_code and one_pass only where the config has settings for them."""
    absent = {name for name in ("authors_code", "one_pass") if getattr(config.evaluation, name) is None}
    return {name: spec for name, spec in EVALUATIONS.items() if name not in absent}


def of_methods(config: Config) -> list[str]:
    """Names of the config's evaluations that are of each method."""
    return [name for name, spec in evaluations_of(config).items() if spec.methods]
