"""Smoothed scores certified in l2 balls."""

from __future__ import annotations

from contextlib import ExitStack
from math import gcd
from typing import TYPE_CHECKING, Any

import pandas as pd

from oodcert.certification.adaptive import PILOT_DRAWS, PILOT_IMAGES, PILOT_SHARE, alpha_spending_schedule
from oodcert.config.models import CertifyL2Settings, Config, Precision
from oodcert.evaluations.cost import AT_MOST, EXACT, Cost, sampled_passes, through
from oodcert.evaluations.settings import MethodJob, method_job
from oodcert.evaluations.spec import EvaluationSpec, schema
from oodcert.runtime.settings import Radii, Sigmas
from oodcert.statistics.metrics import tpr_threshold

if TYPE_CHECKING:
    from oodcert.evaluations.base import Evaluation
    from oodcert.models.detector import Detector

# adaptive sampling: how far an ID bound may be from what all draws would give
ID_TOLERANCE = 0.002  # in units of a score in [0, 1]
ID_TOLERANCE_UNBOUNDED = 0.05  # of another, in standard deviations of the image's draws


class CertifyL2Job(MethodJob):
    """Settings of the evaluation certify_l2."""

    sigmas: Sigmas
    radii: Radii
    n: int
    alpha: float
    bounds: tuple[str, ...]
    sampling: str
    precision: Precision = "float32"

    def certify_options(self) -> dict[str, Any]:
        """Arguments of `oodcert.certify` that are the same for all image sets."""
        shared = {key: getattr(self, key) for key in ("n", "alpha", "seed", "batch_size", "sampling", "precision")}
        return shared | {"bounds": self.method_spec.admitted_bounds(self.bounds)}


def certify_l2(*evaluations: Evaluation[CertifyL2Job], id_rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """A row per sigma, method, image, bound and radius: the bounds on the image's smoothed score.

    Adaptive sampling decides which OOD bounds stay below a threshold. The threshold is what 95 % of the method's ID
    lower bounds reach at radius 0, the only radius of its ID bounds. Upper bounds of few draws say which ID bounds may
    decide the threshold: these are sharp. The others may be lower than more draws would make them.

    Args:
        evaluations: of one method, or of several that differ in their networks alone and admit the same bounds. These
            see the same draws, which a denoiser that they share denoises once.
        id_rows: rows of all ID images, if the evaluations have none.

    Returns:
        Rows with the columns of SPEC.
    """
    job, frames = evaluations[0].settings, []
    for sigma in job.sigmas:
        frames += _at_sigma(evaluations, sigma, None if id_rows is None else id_rows[id_rows["sigma"] == sigma])
    keys = ["method", "set", "sample"]
    table = pd.concat(frames, ignore_index=True)
    return table[[*keys, *table.columns.drop(keys)]]


def _at_sigma(
    evaluations: tuple[Evaluation[CertifyL2Job], ...], sigma: float, id_rows: pd.DataFrame | None
) -> list[pd.DataFrame]:
    """The tables of all image sets at one sigma."""
    from oodcert.certification.certify import certify
    from oodcert.models.composition import smoothed_network

    first, frames = evaluations[0], []
    job = first.settings
    adaptive = job.sampling == "adaptive"
    looks, _ = alpha_spending_schedule(job.sampling, job.n, job.alpha)
    caps = _lower_bound_caps(evaluations, sigma) if len(looks) > 1 and "id" in first.sets else None
    thresholds = None if id_rows is None else _thresholds(id_rows, "lower")
    with ExitStack() as stack:
        detectors = {
            one.method: one.detector(stack.enter_context(one.network(smoothed_network, sigma))) for one in evaluations
        }
        for name, image_set in first.sets.items():
            decides = adaptive and name == "id"  # the threshold of the OOD images
            table = certify(
                detectors,
                first.images(name),
                sigma,
                [0.0] if decides else list(job.radii),
                **job.certify_options(),
                decision_thresholds=None if decides else thresholds,
                lower_bound_cap=caps if decides else None,
                tolerance=id_tolerances(detectors),
                ids=image_set.ids,
                name=f"certify/{name}",
                progress=f"{name}, sigma {sigma}",
            ).rename(columns={"detector": "method", "image": "sample"})
            if decides:
                thresholds = _thresholds(table, "lower")
            frames.append(table.assign(set=name))
    return frames


def id_tolerances(detectors: dict[str, Detector]) -> dict[str, float]:
    """By name, the `tolerance` of certify for ID images, on whose bounds the threshold for the others rests."""
    return {name: ID_TOLERANCE_UNBOUNDED if one.unbounded else ID_TOLERANCE for name, one in detectors.items()}


def _lower_bound_caps(evaluations: tuple[Evaluation[CertifyL2Job], ...], sigma: float) -> pd.DataFrame:
    """A table that `certify` takes as lower_bound_cap: what 90 % of the upper bounds of a pilot reach.

    That is hardly below what 95 % of the lower bounds of all draws reach. Whatever it is, it decides only how many
    draws are taken. The pilot is of all ID images, or the first ones, whichever are evaluated here. It is computed once
    a method, and not counted in its calls.
    """
    import torch

    from oodcert.certification.certify import certify
    from oodcert.models.composition import smoothed_network

    first = evaluations[0]
    assert first.id_set is not None
    id_set = first.id_set.first(min(PILOT_IMAGES, len(first.id_set)))
    lacking = [one for one in evaluations if sigma not in one.lower_bound_caps]
    if lacking:
        pilot = certify(
            {one.method: one.detector(one.build(smoothed_network, sigma)) for one in lacking},
            torch.from_numpy(id_set.floats()).to(first.device),
            sigma,
            [0.0],
            **first.settings.certify_options() | {"n": PILOT_DRAWS, "sampling": "fixed"},
            ids=id_set.ids,
            name="pilot/id",
            progress=f"pilot, sigma {sigma}",
        ).rename(columns={"detector": "method"})
        for one in lacking:
            one.lower_bound_caps[sigma] = _thresholds(pilot[pilot["method"] == one.method], "upper", PILOT_SHARE)
    return pd.concat([one.lower_bound_caps[sigma] for one in evaluations], ignore_index=True)


def _thresholds(rows: pd.DataFrame, side: str, share: float = 0.95) -> pd.DataFrame:
    """As a table that `certify` compares with: what that share of the bounds of a side reach, by method and bound."""
    values = rows.groupby(["method", "bound"])[side].agg(tpr_threshold, tpr=share).rename("lower").reset_index()
    return values.rename(columns={"method": "detector"}).assign(radius=0.0)


def settings(config: Config, method: str) -> CertifyL2Job:
    """What decides the rows."""
    return CertifyL2Job(**method_job(config, method), **config.evaluation.certify_l2.as_json())


def cost(config: Config, method: str) -> Cost:
    """n draws of every image at every sigma, or at most so many; and a pilot for every shard of the ID images."""
    spec, data, certify = config.methods[method], config.data, config.evaluation.certify_l2
    adaptive = certify.sampling == "adaptive"
    looks, _ = alpha_spending_schedule(certify.sampling, certify.n, certify.alpha)
    images, sets, sigmas = data.test_images, 1 + len(data.ood), len(certify.sigmas)
    calls = sigmas * sets * sampled_passes(config, images, looks)
    if len(looks) > 1:
        pilot = sampled_passes(config, min(images, PILOT_IMAGES), [PILOT_DRAWS])
        calls += sigmas * min(config.shards, images) * pilot
    bounds, radii = len(spec.admitted_bounds(certify.bounds)), len(certify.radii)
    rows = sigmas * images * bounds * ((sets - 1) * radii + (1 if adaptive else radii))
    return Cost(images * sets, rows, AT_MOST if adaptive else EXACT, through(spec, calls))


def whole_batches(config: Config, method: str) -> int:
    """Images whose draws fill batches; one with adaptive sampling, where nobody knows how many draws one takes."""
    certify: CertifyL2Settings = config.evaluation.certify_l2
    size = config.evaluation.batch_size
    return 1 if certify.sampling == "adaptive" else size // gcd(size, certify.n)


SPEC = EvaluationSpec(
    name="certify_l2",
    message="Certifying the OOD score of {} in l2 balls",
    function="oodcert.evaluations.certify_l2:certify_l2",
    schema=schema("bound:str sigma:float radius:float estimate:float lower:float upper:float n:int alpha:float"),
    keys=("sigma", "bound", "radius"),
    order=("sigma", "set"),
    sides=("id", "ood"),
    settings=settings,
    cost=cost,
    whole_batches=whole_batches,
    priority=1,
    needs_id_rows=lambda config: config.evaluation.certify_l2.sampling == "adaptive",
)
