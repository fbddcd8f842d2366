"""What the authors' code computes on components trained here, and what each of its departures changes.

docs/defects.md explains the departures, each of which is a flag of oodcert.authors_code.flags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from oodcert.authors_code.cost import cost as passes_of
from oodcert.config.models import Config, RandAutoAttack, RestartedAttack, StandardAutoAttack
from oodcert.evaluations.cost import EXACT, Cost
from oodcert.evaluations.settings import DeployedJob, deployed_job
from oodcert.evaluations.spec import EvaluationSpec, Quantity, Side, schema
from oodcert.runtime.settings import Epsilons, Settings

if TYPE_CHECKING:
    from oodcert.evaluations.base import Evaluation

QUANTITIES = (
    Quantity("scores", ("id", "ood")),
    Quantity("bounds", ("id", "ood")),
    Quantity("attacks", ("ood",)),
    Quantity("votes", ("id", "ood")),
    Quantity("labels", ("id",)),
)


class GradientBudget(Settings):
    """The budget of the l-infinity attack without Square, which the authors' code does not have."""

    apgd: RestartedAttack
    pgd: RestartedAttack
    draws: int


class AuthorsCodeJob(DeployedJob):
    """Settings of the evaluation authors_code."""

    images: int
    n0: int
    n: int
    epsilon: float
    budget: GradientBudget
    bounds: tuple[str, ...]
    alpha: float
    epsilons: Epsilons
    autoattack: StandardAutoAttack | RandAutoAttack


def authors_code(evaluation: Evaluation[AuthorsCodeJob]) -> pd.DataFrame:
    """A row per image, quantity and corrected flag: the value of the quantity, of the first `images` of every set.

    `corrected_flag` is "" where the authors' code is followed in all, or the one flag that is corrected, where that may
    change the quantity. What the other flags change is computed from these rows (oodcert.reporting.tables). Quantities:

    - score; bound and attacked, in the l-infinity ball; correct, whether the class is right;
    - agreeing, how many of n votes the class of the first n0 has; voted_right, whether that class is the label;
      one_pass, its probability in a single pass; l2_bound, a sound upper bound at the image's certified radius;
    - robust, of randomised methods, under AutoAttack at its largest radius;
    - single_image, of joint models: whether a bound of one image alone can be computed.

    Args:
        evaluation: of one method: its networks, image sets and settings.

    Returns:
        Rows with the columns of SPEC.
    """
    from oodcert.evaluations.authors_code.protocol import compute

    return compute(evaluation)


def settings(config: Config, method: str) -> AuthorsCodeJob:
    """What decides the rows."""
    evaluation, spec = config.evaluation, config.methods[method]
    assert evaluation.authors_code is not None
    attack = evaluation.attack_linf
    return AuthorsCodeJob(
        **deployed_job(config, method),
        **evaluation.authors_code.as_json(),
        epsilon=evaluation.epsilon,
        budget=GradientBudget(apgd=attack.apgd, pgd=attack.pgd, draws=attack.draws),
        bounds=evaluation.certify_l2.bounds,
        alpha=evaluation.certify_l2.alpha,
        epsilons=evaluation.attack_id.epsilons,
        autoattack=evaluation.attack_id.budget_of(spec),
    )


def cost(config: Config, method: str) -> Cost:
    """All quantities, with every flag that acts."""
    images, rows, passes = passes_of(config, config.methods[method])
    return Cost(images, rows, EXACT, passes)


def images(config: Config) -> int:
    """Images of every set."""
    assert config.evaluation.authors_code is not None
    return config.evaluation.authors_code.images


def has_quantity(quantity: str, side: Side, config: Config, method: str) -> bool:
    """Whether a quantity is computed: labels of randomised methods, bounds of ID images of joint models."""
    spec = config.methods[method]
    if quantity == "labels":
        return spec.is_randomised
    return quantity != "bounds" or side == "ood" or spec.discriminator


SPEC = EvaluationSpec(
    name="authors_code",
    message="Evaluating {} as the authors' code does",
    function="oodcert.evaluations.authors_code:authors_code",
    schema=schema("corrected_flag:str quantity:str value:float"),
    keys=("corrected_flag", "quantity"),
    order=("quantity", "corrected_flag", "set"),
    sides=("id", "ood"),
    settings=settings,
    cost=cost,
    whole_batches=lambda config, method: images(config),
    images=images,
    quantities=QUANTITIES,
    has_quantity=has_quantity,
    megabytes=8000,
)
