"""OOD scores attacked in the l-infinity ball."""

from __future__ import annotations

from math import lcm
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd

from oodcert.config.models import Config, LinfAttackBudget
from oodcert.evaluations.cost import EXACT, Cost, draws_of, linf_attack_passes, ood_images, through
from oodcert.evaluations.settings import DeployedJob, deployed_job
from oodcert.evaluations.spec import EvaluationSpec, schema

if TYPE_CHECKING:
    from torch import Tensor

    from oodcert.evaluations.base import Evaluation
    from oodcert.models.detector import Detector

COLUMNS = (
    "epsilon:float clean:float attacked:float attack:str white_box:float square:float standard_error:float "
    "apgd_iterations:int apgd_restarts:int pgd_iterations:int pgd_restarts:int queries:int draws:int"
)


class AttackLinfJob(DeployedJob):
    """Settings of the evaluation attack_linf."""

    epsilon: float
    budget: LinfAttackBudget


A = TypeVar("A", bound=AttackLinfJob)


def attack_linf(evaluation: Evaluation[A]) -> pd.DataFrame:
    """A row per OOD image: the highest score that the ensemble of attacks reaches, and which attack reached it.

    `attack` names the strongest, "clean" if no attack raised the score. `white_box` is the highest score without
    Square, the clean one included, and `square` is Square's: if it wins often, the gradients mislead. `standard_error`
    is that of the attacked score over a randomised method's draws. Such a method is attacked on one set of noise draws
    and scored on the draws of its clean evaluation, which the attack never saw, all candidates on the same ones. The
    clean image is a candidate, so attacked ≥ clean.

    Args:
        evaluation: of one method: its networks, image sets and settings.

    Returns:
        Rows with the columns of SPEC.
    """
    from oodcert.evaluations.base import score_deployed
    from oodcert.models.composition import deployed_network
    from oodcert.models.wrappers import noisy_modules

    job, frames = evaluation.settings, []
    with evaluation.network(deployed_network, job.sigma) as network:
        detector = evaluation.detector(network)
        draws = job.budget.draws if noisy_modules(network) else 1
        for name, _ in evaluation.ood():
            candidates = _candidates(evaluation, detector, name, draws)
            scores = np.stack([score_deployed(evaluation, detector, points, name)[0] for points in candidates.values()])
            frames.append(_rows(evaluation, name, list(candidates), scores, draws))
    return pd.concat(frames, ignore_index=True)


def _candidates(evaluation: Evaluation[A], detector: Detector, name: str, draws: int) -> dict[str, Tensor]:
    """ "clean" and the name of each attack -> images [N, C, H, W] of a set."""
    import torch

    from oodcert.attacks.ood import linf_ensemble
    from oodcert.evaluations.base import batch_of_images, batches
    from oodcert.runtime.memory import with_oom_backoff

    job, images, ids = evaluation.settings, evaluation.images(name), evaluation.sets[name].ids
    budget = job.budget.as_json()

    def attack(index: np.ndarray) -> dict[str, Tensor]:
        return linf_ensemble(detector, images[index], ids[index], name, job.epsilon, **budget, seed=job.seed)

    compute, computed = with_oom_backoff(attack), []
    for index, real in batches(ids, batch_of_images(job, draws), f"attack, {name}"):
        computed.append({kind: points[:real] for kind, points in compute(index).items()})
    return {"clean": images} | {kind: torch.cat([batch[kind] for batch in computed]) for kind in computed[0]}


def _rows(evaluation: Evaluation[A], name: str, attacks: list[str], scores: np.ndarray, draws: int) -> pd.DataFrame:
    """The rows of a set from the scores [attacks, draws, N] of all candidates."""
    from oodcert.evaluations.base import rows

    job, ids = evaluation.settings, evaluation.sets[name].ids
    means = pd.DataFrame(scores.mean(1).T, columns=attacks)
    winners = scores[means.to_numpy().argmax(1), :, np.arange(len(ids))]
    columns = {
        "clean": means["clean"],
        "attacked": means.max(axis=1),
        "attack": means.idxmax(axis=1),
        "white_box": means.drop(columns="square").max(axis=1),
        "square": means["square"],
        "standard_error": winners.std(1, ddof=1) / winners.shape[1] ** 0.5 if winners.shape[1] > 1 else 0.0,
    }
    budget = {
        "apgd_iterations": job.budget.apgd.iterations,
        "apgd_restarts": job.budget.apgd.restarts,
        "pgd_iterations": job.budget.pgd.iterations,
        "pgd_restarts": job.budget.pgd.restarts,
        "queries": job.budget.square.queries,
        "draws": draws,
    }
    return rows(evaluation, name, sample=ids, epsilon=job.epsilon, **columns, **budget)


def settings(config: Config, method: str) -> AttackLinfJob:
    """What decides the rows."""
    evaluation = config.evaluation
    return AttackLinfJob(**deployed_job(config, method), epsilon=evaluation.epsilon, budget=evaluation.attack_linf)


def cost(config: Config, method: str) -> Cost:
    """All attacks of the ensemble, and the scores of what they give."""
    spec, evaluation, images = config.methods[method], config.evaluation, ood_images(config)
    counts = linf_attack_passes(config, spec, config.data.test_images, evaluation.attack_linf, evaluation.batch_size)
    return Cost(images, images, EXACT, through(spec, *(len(config.data.ood) * count for count in counts)))


def whole_batches(config: Config, method: str) -> int:
    """Images that fill batches of the attack and of the scores."""
    spec, evaluation = config.methods[method], config.evaluation
    scored = max(1, evaluation.batch_size // draws_of(spec, evaluation.draws))
    return lcm(scored, max(1, evaluation.batch_size // draws_of(spec, evaluation.attack_linf.draws)))


SPEC = EvaluationSpec(
    name="attack_linf",
    message="Attacking the OOD confidence of {} in the l-infinity ball",
    function="oodcert.evaluations.attack_linf:attack_linf",
    schema=schema(COLUMNS),
    keys=("epsilon",),
    order=("set",),
    sides=("ood",),
    settings=settings,
    cost=cost,
    whole_batches=whole_batches,
    priority=1,
)
