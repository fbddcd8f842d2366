"""Labels of ID images certified in l2 balls.

Source: Cohen et al. (2019), https://arxiv.org/abs/1902.02918
"""

from __future__ import annotations

from contextlib import ExitStack
from math import gcd
from typing import TYPE_CHECKING

import pandas as pd

from oodcert.certification.adaptive import alpha_spending_schedule
from oodcert.config.models import Config, Precision
from oodcert.evaluations.cost import AT_MOST, EXACT, Cost, sampled_passes, through
from oodcert.evaluations.settings import MethodJob, method_job
from oodcert.evaluations.spec import EvaluationSpec, schema
from oodcert.runtime.settings import Radii, Sigmas

if TYPE_CHECKING:
    from torch import nn

    from oodcert.evaluations.base import Evaluation


class CertifyIdJob(MethodJob):
    """Settings of the evaluation certify_id."""

    sigmas: Sigmas
    radii: Radii
    n0: int
    n: int
    alpha: float
    sampling: str
    precision: Precision = "float32"


def certify_id(*evaluations: Evaluation[CertifyIdJob]) -> pd.DataFrame:
    """A row per sigma, method and ID image: the class of the smoothed classifier, and its certified radius.

    Args:
        evaluations: of one method, or of several that differ in their networks alone. These see the same draws, which
            a denoiser that they share denoises once.

    Returns:
        Rows with the columns of SPEC.
    """
    from oodcert.certification.certify_labels import certify_labels
    from oodcert.evaluations.base import rows
    from oodcert.models.composition import smoothed_network
    from oodcert.models.wrappers import ClassLogits

    first, frames = evaluations[0], []
    job, ids, labels = first.settings, first.sets["id"].ids, first.sets["id"].labels
    options = {key: getattr(job, key) for key in ("n0", "n", "alpha", "sampling", "precision", "seed", "batch_size")}
    for sigma in job.sigmas:
        with ExitStack() as stack:
            networks: dict[str, nn.Module] = {
                one.method: ClassLogits(stack.enter_context(one.network(smoothed_network, sigma)), job.num_classes)
                for one in evaluations
            }
            table = certify_labels(
                networks,
                first.images("id"),
                labels,
                sigma,
                radii=list(job.radii),
                **options,
                ids=ids,
                name="labels/id",
                progress=f"labels, sigma {sigma}",
            )
        for one in evaluations:
            of_method = table[table["network"] == one.method]
            columns = {key: of_method[key].to_numpy() for key in ("prediction", "radius", "correct", "n")}
            constants = {"n0": job.n0, "alpha": job.alpha}
            frames.append(rows(one, "id", sample=ids, sigma=sigma, label=labels, **columns, **constants))
    return pd.concat(frames, ignore_index=True)


def settings(config: Config, method: str) -> CertifyIdJob:
    """What decides the rows."""
    return CertifyIdJob(**method_job(config, method), **config.evaluation.certify_id.as_json())


def cost(config: Config, method: str) -> Cost:
    """n0 + n draws of every ID image at every sigma, or at most so many."""
    images, certify = config.data.test_images, config.evaluation.certify_id
    looks, _ = alpha_spending_schedule(certify.sampling, certify.n, certify.alpha)
    calls = sampled_passes(config, images, [certify.n0 + drawn for drawn in looks])
    times, certainty = len(certify.sigmas), EXACT if certify.sampling == "fixed" else AT_MOST
    return Cost(images, times * images, certainty, through(config.methods[method], times * calls))


def whole_batches(config: Config, method: str) -> int:
    """Images whose draws fill batches; one with adaptive sampling, where nobody knows how many draws one takes."""
    certify, size = config.evaluation.certify_id, config.evaluation.batch_size
    return 1 if certify.sampling == "adaptive" else size // gcd(size, certify.n0 + certify.n)


SPEC = EvaluationSpec(
    name="certify_id",
    message="Certifying the labels of {} in l2 balls",
    function="oodcert.evaluations.certify_id:certify_id",
    schema=schema("sigma:float label:int prediction:int radius:float correct:bool n:int n0:int alpha:float"),
    keys=("sigma",),
    order=("sigma",),
    sides=("id",),
    settings=settings,
    cost=cost,
    whole_batches=whole_batches,
)
