"""Smoothed scores of OOD images attacked in l2 balls."""

from __future__ import annotations

from math import gcd, lcm
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from oodcert.attacks import ATTACK_ALPHA
from oodcert.config.models import Config, Precision
from oodcert.evaluations.cost import EXACT, Cost, ood_images, sampled_passes, through
from oodcert.evaluations.settings import MethodJob, method_job
from oodcert.evaluations.spec import EvaluationSpec, schema
from oodcert.runtime.padding import images_per_batch, padded_count
from oodcert.runtime.settings import Radii, Sigmas

if TYPE_CHECKING:
    from torch import Tensor

    from oodcert.evaluations.base import Evaluation
    from oodcert.models.detector import Detector


class AttackL2Job(MethodJob):
    """Settings of the evaluation attack_l2."""

    sigmas: Sigmas
    radii: Radii
    iterations: int
    restarts: int
    draws: int
    n: int
    precision: Precision = "float32"
    one_pass: bool = False

    def budget(self) -> dict[str, int]:
        """The budget of the attack."""
        return {"iterations": self.iterations, "restarts": self.restarts, "draws": self.draws}


def attack_l2(evaluation: Evaluation[AttackL2Job]) -> pd.DataFrame:
    """A row per sigma, OOD image and certified radius: its smoothed score attacked, estimated on fresh noise.

    An attack starts from the result at the next smaller radius. Each image keeps its highest value over the smaller
    radii, its clean one (radius 0) included. The lower bounds hold with probability ≥ 1 - alpha each, that choice
    included; `mean_lower` is -inf for an unbounded score.

    With `one_pass` there is the score of a single fresh draw, `one_pass_score`: what a detector of one pass a query
    sees of the image attacked at this radius. No highest value is chosen of these.

    Args:
        evaluation: of one method: its networks, image sets and settings.

    Returns:
        Rows with the columns of SPEC.
    """
    from oodcert.evaluations.base import rows
    from oodcert.models.composition import smoothed_network

    job, frames = evaluation.settings, []
    radii = sorted({0.0, *job.radii})
    kept = ["one_pass_score"] if job.one_pass else []
    for sigma in job.sigmas:
        with evaluation.network(smoothed_network, sigma) as network:
            detector = evaluation.detector(network)
            for name, ids in evaluation.ood():
                attacked, strongest = evaluation.images(name), None
                for radius in radii:
                    if radius > 0:
                        attacked = _attacked(evaluation, detector, attacked, name, sigma, radius)
                    smoothed = _smoothed(evaluation, detector, attacked, name, sigma, ATTACK_ALPHA / len(radii))
                    single = smoothed[kept]
                    strongest = smoothed if strongest is None else np.maximum(strongest, smoothed)
                    where = {"sample": ids, "sigma": sigma, "radius": radius}
                    constants = {"n": job.n, "alpha": ATTACK_ALPHA, **job.budget()}
                    statistics = strongest.drop(columns="one_pass_score")
                    frames.append(rows(evaluation, name, **where, **statistics, **constants, **single))
    return pd.concat(frames, ignore_index=True)


def _attacked(
    evaluation: Evaluation[AttackL2Job], detector: Detector, starts: Tensor, name: str, sigma: float, radius: float
) -> Tensor:
    """The images of a set attacked within a radius, from `starts` [N, C, H, W]."""
    import torch

    from oodcert.attacks.ood import smoothed_l2_attack
    from oodcert.evaluations.base import batch_of_images, batches
    from oodcert.runtime.memory import with_oom_backoff

    job, images, ids = evaluation.settings, evaluation.images(name), evaluation.sets[name].ids

    def attack(index: np.ndarray) -> Tensor:
        budget = job.budget()
        return smoothed_l2_attack(
            detector, images[index], ids[index], name, sigma, radius, starts[index], **budget, seed=job.seed
        )

    compute, size = with_oom_backoff(attack), batch_of_images(job, job.draws)
    progress = f"attack, {name}, sigma {sigma}, radius {radius}"
    return torch.cat([compute(index)[:real] for index, real in batches(ids, size, progress)])


def _smoothed(
    evaluation: Evaluation[AttackL2Job], detector: Detector, images: Tensor, name: str, sigma: float, alpha: float
) -> pd.DataFrame:
    """Median and mean of the smoothed score of each image, lower bounds on them, and one score, from fresh noise."""
    import torch

    from oodcert.certification.mean_intervals import betting_bounds
    from oodcert.certification.monte_carlo import sample
    from oodcert.certification.precision import marked_logits, prepared
    from oodcert.certification.smoothing_bounds import percentile_bounds
    from oodcert.models.checks import refuse_rows

    job, network = evaluation.settings, detector.network

    def score(batch: Tensor) -> Tensor:
        logits, finite = marked_logits(network, batch, job.precision)
        return detector.score_logits(logits).where(finite, torch.nan)

    drawn = sample(
        score,
        images,
        evaluation.sets[name].ids,
        f"attack_l2/final/{name}",
        sigma=sigma,
        looks=[job.n],
        refuse=lambda scores: refuse_rows(network, np.isnan(scores)),
        precision=job.precision,
        seed=job.seed,
        batch_size=job.batch_size,
        progress=f"score, {name}, sigma {sigma}",
    )
    with prepared([network], images.device, job.precision):
        draws = np.stack([scores for _, scores in drawn])
    ordered = np.sort(draws, axis=1)
    return pd.DataFrame(
        {
            "median": ordered[:, -(-job.n // 2) - 1],
            "median_lower": percentile_bounds(ordered, sigma, [0.0], alpha)[0][:, 0],
            "mean": draws.mean(1),
            "mean_lower": -np.inf if detector.unbounded else betting_bounds(draws, alpha)[0],
            "one_pass_score": draws[:, 0],
        }
    )


def settings(config: Config, method: str) -> AttackL2Job:
    """What decides the rows: the attack's settings, and the radii and the precision of the certificates."""
    certify = config.evaluation.certify_l2.as_json()
    shared: dict[str, Any] = {key: certify[key] for key in ("radii", "precision") if key in certify}
    if config.evaluation.one_pass is not None:
        shared["one_pass"] = True
    return AttackL2Job(**method_job(config, method), **config.evaluation.attack_l2.as_json(), **shared)


def cost(config: Config, method: str) -> Cost:
    """The gradients of the attack at every radius but 0, and the fresh draws at every radius."""
    spec, images, attack = config.methods[method], config.data.test_images, config.evaluation.attack_l2
    radii = {0.0, *config.evaluation.certify_l2.radii}
    times = len(attack.sigmas) * len(config.data.ood)
    padded = padded_count(images, images_per_batch(config.evaluation.batch_size, attack.draws, images))
    gradients = (1 + attack.restarts) * (1 + attack.iterations)
    backward = times * (len(radii) - 1) * padded * attack.draws * gradients
    forward = backward + times * len(radii) * sampled_passes(config, images, [attack.n])
    return Cost(ood_images(config), times * images * len(radii), EXACT, through(spec, forward, backward))


def whole_batches(config: Config, method: str) -> int:
    """Images that fill batches of the attack and of the fresh draws."""
    attack, size = config.evaluation.attack_l2, config.evaluation.batch_size
    return lcm(size // gcd(size, attack.n), max(1, size // attack.draws))


SPEC = EvaluationSpec(
    name="attack_l2",
    message="Attacking the smoothed OOD score of {} in l2 balls",
    function="oodcert.evaluations.attack_l2:attack_l2",
    schema=schema(
        "sigma:float radius:float median:float median_lower:float mean:float mean_lower:float n:int alpha:float "
        "iterations:int restarts:int draws:int one_pass_score:float"
    ),
    optional=("one_pass_score",),
    keys=("sigma", "radius"),
    order=("sigma", "set", "radius"),
    sides=("ood",),
    settings=settings,
    cost=cost,
    whole_batches=whole_batches,
)
