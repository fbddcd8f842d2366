"""Noisy scores of the detector that takes one pass a query, from which its ROC is certified."""

from __future__ import annotations

from contextlib import ExitStack
from math import gcd
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from oodcert.config.models import Config, OnePassSettings, Precision
from oodcert.evaluations.cost import EXACT, Cost, sampled_passes, through
from oodcert.evaluations.settings import MethodJob, method_job
from oodcert.evaluations.spec import EvaluationSpec, schema
from oodcert.runtime.settings import Sigmas

if TYPE_CHECKING:
    from oodcert.evaluations.base import Evaluation


class OnePassJob(MethodJob):
    """Settings of the evaluation one_pass."""

    sigmas: Sigmas
    draws: int
    precision: Precision = "float32"


def one_pass(*evaluations: Evaluation[OnePassJob], id_rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """A row per sigma, method, image and draw: the score of the image under noise of its own.

    Args:
        evaluations: of one method, or of several that differ in their networks alone. These see the same draws, which a
            denoiser that they share denoises once.
        id_rows: not used.

    Returns:
        Rows with the columns of SPEC.
    """
    from oodcert.certification.certified_roc import noisy_scores
    from oodcert.certification.given import GivenImages
    from oodcert.certification.joint_sampling import SmoothingSettings
    from oodcert.models.composition import smoothed_network

    first, frames = evaluations[0], []
    job = first.settings
    for sigma in job.sigmas:
        with ExitStack() as stack:
            detectors = {
                one.method: one.detector(stack.enter_context(one.network(smoothed_network, sigma)))
                for one in evaluations
            }
            for name, image_set in first.sets.items():
                settings = SmoothingSettings(
                    sigma,
                    job.draws,
                    alpha=0.5,  # no bound is computed here
                    seed=job.seed,
                    batch_size=job.batch_size,
                    precision=job.precision,
                    name=f"one_pass/{name}",
                )
                label = f"one pass, {name}, sigma {sigma}"
                given = GivenImages(first.images(name), image_set.ids.tolist())
                scores = noisy_scores(detectors, given, settings, label)
                frames += [_rows(method, name, image_set.ids, sigma, rows) for method, rows in scores.items()]
    return pd.concat(frames, ignore_index=True)


def _rows(method: str, name: str, ids: np.ndarray, sigma: float, scores: np.ndarray) -> pd.DataFrame:
    """Scores [N, m] as rows."""
    draws = scores.shape[1]
    columns = {"sample": np.repeat(ids, draws), "sigma": sigma, "draw": np.tile(np.arange(draws), len(ids))}
    return pd.DataFrame({"method": method, "set": name, **columns, "score": scores.ravel()})


def _settings(config: Config) -> OnePassSettings:
    assert config.evaluation.one_pass is not None, "evaluations_of leaves it out"
    return config.evaluation.one_pass


def settings(config: Config, method: str) -> OnePassJob:
    """What decides the rows."""
    given = _settings(config)
    precision = config.evaluation.certify_l2.precision
    return OnePassJob(**method_job(config, method), sigmas=given.sigmas, draws=given.draws, precision=precision)


def cost(config: Config, method: str) -> Cost:
    """The draws of every image at every sigma."""
    given, data = _settings(config), config.data
    sets = 1 + len(data.ood)
    calls = len(given.sigmas) * sets * sampled_passes(config, data.test_images, [given.draws])
    rows = len(given.sigmas) * sets * data.test_images * given.draws
    return Cost(data.test_images * sets, rows, EXACT, through(config.methods[method], calls))


def whole_batches(config: Config, method: str) -> int:
    """Images whose draws fill batches."""
    size = config.evaluation.batch_size
    return size // gcd(size, _settings(config).draws)


SPEC = EvaluationSpec(
    name="one_pass",
    message="Drawing noisy scores of {} for the certified ROC",
    function="oodcert.evaluations.one_pass:one_pass",
    schema=schema("sigma:float draw:int score:float"),
    keys=("sigma", "draw"),
    order=("sigma", "set"),
    sides=("id", "ood"),
    settings=settings,
    cost=cost,
    whole_batches=whole_batches,
)
