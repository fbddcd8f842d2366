"""Evidence on the l-infinity attack itself: other radii and budgets, on few images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from oodcert.attacks import REDUCED
from oodcert.config.models import Config, LinfAttackBudget
from oodcert.evaluations.attack_linf import COLUMNS, AttackLinfJob, attack_linf
from oodcert.evaluations.cost import EXACT, Cost, draws_of, linf_attack_passes, through
from oodcert.evaluations.settings import deployed_job
from oodcert.evaluations.spec import EvaluationSpec, schema
from oodcert.runtime.settings import Epsilons

if TYPE_CHECKING:
    from oodcert.evaluations.base import Evaluation


class SanityJob(AttackLinfJob):
    """Settings of the evaluation sanity."""

    images: int
    epsilons: Epsilons


def sanity(evaluation: Evaluation[SanityJob]) -> pd.DataFrame:
    """Rows as of attack_linf, with the column share: of the budget's iterations and queries.

    The attack runs at every radius, and at epsilon with a share of its budget, on the first images of each OOD set.

    Args:
        evaluation: of one method: its networks, image sets and settings.

    Returns:
        Rows with the columns of SPEC.
    """
    job, frames = evaluation.settings, []
    draws = draws_of(job.method_spec, job.budget.draws)
    few = {name: image_set.first(job.images) for name, image_set in evaluation.sets.items() if name != "id"}
    runs = [(epsilon, 1.0) for epsilon in job.epsilons] + [(job.epsilon, REDUCED)]
    for epsilon, share in runs:
        changed = job.model_copy(
            update={
                "epsilon": epsilon,
                "budget": reduced(job.budget, share),
                "batch_size": min(job.batch_size, draws * job.images),  # more would be padding
            }
        )
        run = replace(evaluation, sets=few, settings=changed)
        frames.append(attack_linf(run).assign(share=share))
        evaluation.calls += run.calls
    return pd.concat(frames, ignore_index=True)


def reduced(budget: LinfAttackBudget, share: float) -> LinfAttackBudget:
    """The budget with this share of its iterations and queries, each at least one."""

    def less(count: int) -> int:
        return max(1, round(share * count))

    return budget.changed(
        apgd={"iterations": less(budget.apgd.iterations)},
        pgd={"iterations": less(budget.pgd.iterations)},
        square={"queries": less(budget.square.queries)},
    )


def settings(config: Config, method: str) -> SanityJob:
    """What decides the rows."""
    evaluation = config.evaluation
    return SanityJob(
        **deployed_job(config, method),
        epsilon=evaluation.epsilon,
        budget=evaluation.attack_linf,
        **evaluation.sanity.as_json(),
    )


def cost(config: Config, method: str) -> Cost:
    """The attack at every radius, and once more with less of its budget."""
    spec, evaluation, sets = config.methods[method], config.evaluation, len(config.data.ood)
    images, budget, epsilons = evaluation.sanity.images, evaluation.attack_linf, evaluation.sanity.epsilons
    size = min(evaluation.batch_size, images * draws_of(spec, budget.draws))
    full = linf_attack_passes(config, spec, images, budget, size)
    few = linf_attack_passes(config, spec, images, reduced(budget, REDUCED), size)
    counts = (sets * (len(epsilons) * every + less) for every, less in zip(full, few, strict=True))
    return Cost(sets * images, sets * images * (len(epsilons) + 1), EXACT, through(spec, *counts))


SPEC = EvaluationSpec(
    name="sanity",
    message="Trying the l-infinity attack on {} at other radii and budgets",
    function="oodcert.evaluations.sanity:sanity",
    schema=schema(f"{COLUMNS} share:float"),
    keys=("epsilon", "share"),
    order=("share", "epsilon", "set"),
    sides=("ood",),
    settings=settings,
    cost=cost,
    whole_batches=lambda config, method: config.evaluation.sanity.images,
    images=lambda config: config.evaluation.sanity.images,
)
