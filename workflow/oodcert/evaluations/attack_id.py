"""Labels of ID images attacked by AutoAttack.

Source: Croce and Hein (2020), https://arxiv.org/abs/2003.01690
"""

from __future__ import annotations

from math import lcm
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from oodcert.config.models import Config, RandAutoAttack, StandardAutoAttack
from oodcert.evaluations.cost import AT_MOST, EXACT, Certainty, Cost, deployed_passes, draws_of, through
from oodcert.evaluations.settings import DeployedJob, deployed_job
from oodcert.evaluations.spec import EvaluationSpec, schema
from oodcert.runtime.settings import Epsilons

if TYPE_CHECKING:
    from oodcert.evaluations.base import Evaluation


class AttackIdJob(DeployedJob):
    """Settings of the evaluation attack_id."""

    epsilons: Epsilons
    budget: StandardAutoAttack | RandAutoAttack


def attack_id(evaluation: Evaluation[AttackIdJob]) -> pd.DataFrame:
    """A row per epsilon, attack and ID image: whether the image withstands that attack.

    The attacks are those of AutoAttack, each on its own, and the "worst-case" over them. An image counts as robust only
    if AutoAttack reports no error on it and the method's own prediction is right on it before and after. For a
    randomised method this is the prediction by the mean over noise draws that the attack never saw.

    Args:
        evaluation: of one method: its networks, image sets and settings.

    Returns:
        Rows with the columns of SPEC.
    """
    import torch

    from oodcert.attacks.autoattack import autoattack
    from oodcert.evaluations.base import rows, score_deployed
    from oodcert.models.composition import deployed_network
    from oodcert.models.wrappers import ClassLogits
    from oodcert.runtime.keyed_noise import derive_seed

    job, frames = evaluation.settings, []
    images, ids, labels = evaluation.images("id"), evaluation.sets["id"].ids, evaluation.sets["id"].labels
    targets = torch.from_numpy(labels).to(images.device)
    budget = {key: getattr(job.budget, key) for key in ("version", "iterations", "queries", "eot")}
    with evaluation.network(deployed_network, job.sigma) as network:
        detector = evaluation.detector(network)
        before = score_deployed(evaluation, detector, images, "id")[1] == labels
        for epsilon in job.epsilons:
            attacked = autoattack(
                ClassLogits(network, job.num_classes),
                images,
                targets,
                epsilon,
                **budget,
                seed=derive_seed(job.seed, "autoattack", epsilon) % 2**32,
                batch_size=job.batch_size,
            )
            robust = {
                attack: before
                & ~broken.cpu().numpy()
                & (score_deployed(evaluation, detector, points, "id")[1] == labels)
                for attack, (points, broken) in attacked.items()
            }
            robust["worst-case"] = np.logical_and.reduce(list(robust.values()))
            for attack, correct in robust.items():
                columns = {"attack": attack, **budget, "clean_correct": before, "correct": correct}
                frames.append(rows(evaluation, "id", sample=ids, label=labels, epsilon=epsilon, **columns))
    return pd.concat(frames, ignore_index=True)


def settings(config: Config, method: str) -> AttackIdJob:
    """What decides the rows."""
    attack = config.evaluation.attack_id
    return AttackIdJob(
        **deployed_job(config, method),
        epsilons=attack.epsilons,
        budget=attack.budget_of(config.methods[method]),
    )


def cost(config: Config, method: str) -> Cost:
    """AutoAttack as pyautoattack runs it. "standard" leaves out the images that it has broken: at most these passes."""
    spec, images, attack = config.methods[method], config.data.test_images, config.evaluation.attack_id
    budget = attack.budget_of(spec)
    steps, scored = (1 + budget.iterations) * budget.eot, deployed_passes(config, spec, images)
    certainty: Certainty = EXACT
    if budget.version == "rand":
        attacks, checked = 2, 0
        backward = 2 * steps
        forward = backward + 2
    else:
        attacks, certainty = 4, AT_MOST
        targets = min(9, config.data.num_classes - 1)
        checked = 8 * images  # before each attack
        backward = steps + targets * (1 + budget.iterations) + targets * budget.iterations  # apgd-ce, apgd-t, fab-t
        forward = backward + 2 + (2 + targets) + (2 + targets * (3 + budget.iterations)) + (4 + budget.queries)
    times, batches = len(attack.epsilons), -(-images // config.evaluation.batch_size)
    calls = scored + times * (batches + attacks * (checked + scored) + images * forward)
    return Cost(images, times * images * (attacks + 1), certainty, through(spec, calls, times * images * backward))


def whole_batches(config: Config, method: str) -> int:
    """Images that fill batches of the attack and of the scores."""
    spec, evaluation = config.methods[method], config.evaluation
    return lcm(max(1, evaluation.batch_size // draws_of(spec, evaluation.draws)), evaluation.batch_size)


SPEC = EvaluationSpec(
    name="attack_id",
    message="Attacking the labels of {} by AutoAttack",
    function="oodcert.evaluations.attack_id:attack_id",
    schema=schema(
        "label:int epsilon:float attack:str version:str iterations:int queries:int eot:int clean_correct:bool "
        "correct:bool"
    ),
    keys=("epsilon", "attack"),
    order=("epsilon", "attack"),
    sides=("id",),
    settings=settings,
    cost=cost,
    whole_batches=whole_batches,
)
