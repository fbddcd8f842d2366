"""The l-infinity attack on a linear score, whose maximum is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from oodcert.config.models import Config, LinfAttackBudget
from oodcert.evaluations.cost import EXACT, Cost, ood_images
from oodcert.evaluations.settings import NetworkJob, network_job
from oodcert.evaluations.spec import EvaluationSpec, schema

if TYPE_CHECKING:
    from torch import Tensor

    from oodcert.evaluations.base import Evaluation
    from oodcert.models.detector import Detector


class AttackLinearJob(NetworkJob):
    """Settings of the evaluation attack_linear."""

    epsilon: float
    budget: LinfAttackBudget


def attack_linear(evaluation: Evaluation[AttackLinearJob]) -> pd.DataFrame:
    """A row per OOD image: the score w·x, attacked, and its maximum in the ball and the pixel range."""
    import torch

    from oodcert.attacks.ood import linf_ensemble
    from oodcert.runtime.keyed_noise import keyed_noise

    job, frames = evaluation.settings, []
    epsilon, budget = job.epsilon, job.budget.as_json()
    for name, ids in evaluation.ood():
        images = evaluation.images(name)
        weight = torch.from_numpy(keyed_noise(job.seed, "attack_linear", 0, 0, 1, tuple(images.shape[1:]))[0])
        weight = weight.to(images.device)
        detector = linear_detector(weight)
        candidates = linf_ensemble(detector, images, ids.tolist(), name, epsilon, **budget, seed=job.seed)
        with torch.no_grad():
            scores = torch.stack([detector.raw_score(points) for points in (images, *candidates.values())])
        highest = torch.where(weight > 0, (images + epsilon).clamp(max=1), (images - epsilon).clamp(min=0))
        values = {"clean": scores[0], "attacked": scores.amax(0), "maximum": detector.raw_score(highest)}
        columns = {key: value.detach().cpu().double().numpy() for key, value in values.items()}
        frames.append(pd.DataFrame({"method": "linear", "set": name, "sample": ids, "epsilon": epsilon, **columns}))
    return pd.concat(frames, ignore_index=True)


def linear_detector(weight: Tensor) -> Detector:
    """A detector whose score is weight·x; weight: [C, H, W]."""
    from torch import nn

    from oodcert.models.detector import Detector

    layer = nn.Linear(weight.numel(), 1, bias=False, device=weight.device, dtype=weight.dtype)
    layer.weight.data[:] = weight.reshape(1, -1)
    return Detector(nn.Sequential(nn.Flatten(), layer), score=lambda logits: logits[:, 0])


def settings(config: Config, method: str) -> AttackLinearJob:
    """What decides the rows."""
    evaluation = config.evaluation
    return AttackLinearJob(**network_job(config), epsilon=evaluation.epsilon, budget=evaluation.attack_linf)


def cost(config: Config, method: str) -> Cost:
    """No network at all."""
    return Cost(ood_images(config), ood_images(config), EXACT, {})


SPEC = EvaluationSpec(
    name="attack_linear",
    message="Attacking a linear score, whose maximum is known",
    function="oodcert.evaluations.attack_linear:attack_linear",
    schema=schema("epsilon:float clean:float attacked:float maximum:float"),
    keys=("epsilon",),
    order=("set",),
    sides=("ood",),
    settings=settings,
    cost=cost,
    methods=False,
    minutes=60,
)
