"""The certified ROC of the detector that is cheap to deploy: one noisy pass through the network a query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from oodcert.certification.certify import ScoredNetwork
from oodcert.certification.given import GivenImages, by_name, checked_images, checked_radii, checked_settings
from oodcert.certification.joint_sampling import SmoothingSettings, certify_jointly
from oodcert.certification.roc_bounds import (
    Statement,
    certified_curve,
    certified_metrics,
    roc_curve_bounds,
)
from oodcert.models.calls import evaluation_mode
from oodcert.models.detector import Detector
from oodcert.runtime.values import number, whole_number


@dataclass(frozen=True, eq=False)
class CertifiedRoc:
    """What certified_roc returns. Of a dict of detectors both tables have a first column `detector`.

    Attributes:
        metrics: A row a radius: radius, auc, aupr, fpr95, and threshold, at which fpr95 holds. auc and aupr are at
            least, fpr95 at most what every move within the radius leaves, each with the confidence.
        curve: A row a radius and threshold: radius, threshold, fpr (at most), tpr (at least). All thresholds of a
            radius hold together with the confidence.
    """

    metrics: pd.DataFrame
    curve: pd.DataFrame


def certified_roc(
    detector: Detector | Mapping[str, Detector],
    id_images: Tensor | ArrayLike,
    ood_images: Tensor | ArrayLike,
    sigma: float,
    radii: Sequence[float] | float = (0.0, 0.25, 0.5),
    draws: int = 16,
    confidence: float = 0.99,
    seed: int = 0,
    *,
    population: bool = False,
    id_moved: bool = False,
    tries: int = 1,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    precision: str = "float32",
    id_ids: Sequence[int] | np.ndarray | None = None,
    ood_ids: Sequence[int] | np.ndarray | None = None,
    progress: str | None = None,
) -> CertifiedRoc:
    """AUC, AUPR, FPR95 and ROC of the one-pass detector that hold whatever an adversary does within each radius.

    The detector that is certified scores an image once, with fresh noise: s(x + δ), δ ~ N(0, sigma² I). It accepts the
    image if the score reaches a threshold. Its certified ROC is the ROC of noisy scores, moved by R / sigma in probit
    space (see oodcert.certification.acceptance_bounds). The adversary knows everything but the noise of the query. Any
    score will do, bounded or not, at any radius.

    Args:
        detector: A Detector, or a dict of them by name. These see the same draws, and share the pass through a denoiser
            that they have in common.
        id_images: In-distribution images, float tensor or array [N, C, H, W] in [0, 1].
        ood_images: Out-of-distribution images, likewise [M, C, H, W]. The adversary moves these.
        sigma: Standard deviation of the noise, in that pixel scale.
        radii: l2 radii of the moves, in that pixel scale, at least 0.
        draws: Noise draws an image. The fewer, the looser. Of a population there is one.
        confidence: Probability with which each metric at each radius holds, over the draws.
        seed: Of the noise.
        population: Whether the statement is on the populations that the images are drawn from, each independently of
            the others. Then the confidence is over the images too, and one draw an image is made. Otherwise the
            statement is on these images.
        id_moved: Whether the adversary moves ID images as well.
        tries: Queries that the adversary has for each OOD image, one of which must be accepted.
        batch_size: Of every forward pass; by default as `certify` has it.
        device: Where to run, by default where the images are. The networks are moved there.
        precision: As for `certify`.
        id_ids: Sample ids that key the noise, different integers, by default the positions.
        ood_ids: Likewise, of the OOD images.
        progress: Label of a progress bar.

    Returns:
        The certified metrics and curves.

    Raises:
        InputError: Images, radii, draws, confidence, tries or ids are unusable, or logits or scores are not finite.

    Source: Cohen et al. 2019, https://arxiv.org/abs/1902.02918 (the shift in probit space, of one image and class)
    """
    detectors, shifts = by_name(detector, "detector"), sorted(checked_radii(radii))
    confidence = number("confidence", confidence, lambda c: 0 < c < 1, "a number between 0 and 1 is needed, as 0.99")
    tries = whole_number("tries", tries, lambda k: k > 0, "a whole number of queries is needed, at least 1")
    statement = Statement(confidence, bool(population), bool(id_moved), tries)
    settings = checked_settings(
        SmoothingSettings(sigma, 1 if population else draws, statement.side_alpha, "fixed", seed, batch_size, precision)
    )
    sides = {"id": checked_images(id_images, id_ids, device), "ood": checked_images(ood_images, ood_ids, device)}
    for one in detectors.values():
        with evaluation_mode(one.network.to(sides["id"].images.device)):
            one.try_on(sides["id"].images[:1].float())
    scores = {
        side: noisy_scores(detectors, given, replace(settings, name=f"one pass/{side}"), progress)
        for side, given in sides.items()
    }
    tables = {
        name: roc_tables(scores["id"][name], scores["ood"][name], settings.sigma, shifts, statement)
        for name in detectors
    }
    metrics, curve = (
        pd.concat({name: several[which] for name, several in tables.items()}, names=["detector"]).reset_index(0)
        for which in (0, 1)
    )
    if not isinstance(detector, Mapping):
        metrics, curve = metrics.drop(columns="detector"), curve.drop(columns="detector")
    return CertifiedRoc(metrics.reset_index(drop=True), curve.reset_index(drop=True))


def noisy_scores(
    detectors: Mapping[str, Detector], given: GivenImages, settings: SmoothingSettings, progress: str | None
) -> dict[str, np.ndarray]:
    """Scores of images under fresh noise.

    Args:
        detectors: By name; they see the same draws.
        given: The N images and their ids, on the device where the networks run.
        settings: The noise, and the number of draws.
        progress: Label of a progress bar.

    Returns:
        Detector -> float64 [N, n].

    Raises:
        InputError: Scores are not finite.
    """
    keepers = {name: _DrawKeeper(one) for name, one in detectors.items()}
    kept = certify_jointly(keepers, given.images, given.ids, [settings.n], settings, progress)
    return {name: np.stack(rows) for name, rows in kept.items()}


class _DrawKeeper(ScoredNetwork):
    """Its certificate of an image is the draws themselves."""

    def is_converged(self, draws: np.ndarray) -> bool:
        return False

    def certificate(self, draws: np.ndarray) -> np.ndarray:
        return draws.copy()


def roc_tables(
    id_draws: np.ndarray, ood_draws: np.ndarray, sigma: float, radii: Sequence[float], statement: Statement
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of CertifiedRoc for one detector.

    Args:
        id_draws: Scores [N, m] of the ID images under noise.
        ood_draws: Scores [M, m] of the OOD images under noise.
        sigma: Standard deviation of that noise.
        radii: l2 radii.
        statement: What is certified.

    Returns:
        Metrics and curve.
    """
    bounds, metrics, curves = roc_curve_bounds(id_draws, ood_draws, statement), [], []
    for radius in radii:
        metrics.append({"radius": radius, **certified_metrics(id_draws, ood_draws, bounds, radius / sigma, statement)})
        curves.append(certified_curve(bounds, radius / sigma, statement).assign(radius=radius))
    curve = pd.concat(curves, ignore_index=True)[["radius", "threshold", "fpr", "tpr"]]
    return pd.DataFrame(metrics), curve
