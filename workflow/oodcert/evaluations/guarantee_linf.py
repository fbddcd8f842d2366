"""Guaranteed upper bounds on OOD scores in the l-infinity ball, by interval bound propagation."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from oodcert.config.models import Config
from oodcert.evaluations.cost import ESTIMATE, Cost, ood_images
from oodcert.evaluations.settings import MethodJob, method_job
from oodcert.evaluations.spec import EvaluationSpec, schema

if TYPE_CHECKING:
    from oodcert.evaluations.base import Evaluation


class GuaranteeLinfJob(MethodJob):
    """Settings of the evaluation guarantee_linf."""

    epsilon: float


def guarantee_linf(evaluation: Evaluation[GuaranteeLinfJob]) -> pd.DataFrame:
    """A row per OOD image: the upper bound on its score, computed in float64, and whether it is vacuous."""
    import torch

    from oodcert.certification.linf_bounds import linf_score_upper_bound
    from oodcert.evaluations.base import batch_of_images, batches, rows
    from oodcert.models.composition import deployed_network
    from oodcert.runtime.memory import with_oom_backoff

    frames, job = [], evaluation.settings
    worst = np.inf if job.method_spec.is_unbounded else 1.0
    network = deepcopy(evaluation.build(deployed_network, 0.0)).double()  # the bound does not depend on sigma
    for name, ids in evaluation.ood():
        images = evaluation.images(name).double()

        def bound(index: np.ndarray, images: torch.Tensor = images) -> torch.Tensor:
            return linf_score_upper_bound(network, job.method_spec.score, images[index], job.epsilon)

        compute = with_oom_backoff(bound)
        with torch.inference_mode():
            bounds = [compute(index)[:real] for index, real in batches(ids, batch_of_images(job))]
        upper = torch.cat(bounds).cpu().numpy()
        evaluation.calls += 2 * len(ids)
        frames.append(rows(evaluation, name, sample=ids, epsilon=job.epsilon, upper=upper, vacuous=upper >= worst))
    return pd.concat(frames, ignore_index=True)


def settings(config: Config, method: str) -> GuaranteeLinfJob:
    """What decides the rows."""
    return GuaranteeLinfJob(**method_job(config, method), epsilon=config.evaluation.epsilon)


def cost(config: Config, method: str) -> Cost:
    """Two passes an image, as interval bounds take, though nothing is computed for a method that has none."""
    spec, images = config.methods[method], ood_images(config)
    bounded = "discriminator" if spec.discriminator else spec.classifier
    return Cost(images, images, ESTIMATE, {bounded: (2 * images, 0)})


SPEC = EvaluationSpec(
    name="guarantee_linf",
    message="Bounding the OOD confidence of {} in the l-infinity ball",
    function="oodcert.evaluations.guarantee_linf:guarantee_linf",
    schema=schema("epsilon:float upper:float vacuous:bool"),
    keys=("epsilon",),
    order=("set",),
    sides=("ood",),
    settings=settings,
    cost=cost,
    minutes=60,
)
