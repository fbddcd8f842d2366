"""Scores and predictions of the unperturbed images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from oodcert.config.models import Config
from oodcert.evaluations.cost import EXACT, Cost, deployed_passes, through
from oodcert.evaluations.settings import DeployedJob, deployed_job
from oodcert.evaluations.spec import EvaluationSpec, schema

if TYPE_CHECKING:
    from oodcert.evaluations.base import Evaluation


class CleanJob(DeployedJob):
    """Settings of the evaluation clean."""

    accuracy_images: int


def clean(evaluation: Evaluation[CleanJob]) -> pd.DataFrame:
    """A row per image: its score by the deployed method, and the predicted class.

    The set "id_more", further ID images for the accuracy alone, is left to methods that are not randomised.

    Args:
        evaluation: of one method: its networks, image sets and settings.

    Returns:
        Rows with the columns of SPEC.
    """
    from oodcert.evaluations.base import rows, score_deployed
    from oodcert.models.composition import deployed_network
    from oodcert.models.wrappers import noisy_modules

    frames = []
    with evaluation.network(deployed_network, evaluation.settings.sigma) as network:
        detector = evaluation.detector(network)
        for name, image_set in evaluation.sets.items():
            if name == "id_more" and noisy_modules(network):
                continue
            scores, predictions = score_deployed(evaluation, detector, evaluation.images(name), name)
            columns = {"sample": image_set.ids, "label": image_set.labels, "prediction": predictions}
            frames.append(rows(evaluation, name, **columns, score=scores.mean(0), draws=len(scores)))
    return pd.concat(frames, ignore_index=True)


def settings(config: Config, method: str) -> CleanJob:
    """What decides the rows."""
    return CleanJob(**deployed_job(config, method), accuracy_images=config.data.accuracy_images)


def cost(config: Config, method: str) -> Cost:
    """Every image of every set once, by all noise draws of a randomised method."""
    spec, data = config.methods[method], config.data
    images = data.test_images * (1 + len(data.ood))
    more = 0 if spec.is_randomised else data.accuracy_images - data.test_images
    calls = (1 + len(data.ood)) * deployed_passes(config, spec, data.test_images)
    calls += deployed_passes(config, spec, more)
    return Cost(images + more, images + more, EXACT, through(spec, calls))


SPEC = EvaluationSpec(
    name="clean",
    message="Scoring the clean images with {}",
    function="oodcert.evaluations.clean:clean",
    schema=schema("label:int prediction:int score:float draws:int"),
    keys=(),
    order=("set",),
    sides=("id", "ood"),
    settings=settings,
    cost=cost,
    minutes=60,
)
