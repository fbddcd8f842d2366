"""The certificate of a detector's smoothed score: bounds that hold for every l2 perturbation within a radius."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from oodcert.certification.adaptive import StoppingRule
from oodcert.certification.cdf_bands import check_band
from oodcert.certification.joint_sampling import SmoothingSettings, certify_jointly, network_values, refuse_values
from oodcert.certification.smoothing_bounds import BOUNDS, ScoreBounds, score_bounds
from oodcert.config.method_specs import RANGE_FREE_BOUNDS
from oodcert.errors import InputError
from oodcert.models.checks import check_images, refuse_rows
from oodcert.models.detector import Detector
from oodcert.models.scores import SCORES

# values that bounds are compared with: one for all kinds, one or several a kind, or a table of `certify`
ReferenceValues: TypeAlias = float | Mapping[str, Any] | pd.DataFrame


def certify(
    detector: Detector | dict[str, Detector],
    images: Tensor,
    sigma: float,
    radii: Sequence[float] = (0.0, 0.25, 0.5),
    n: int = 10_000,
    alpha: float = 1e-3,
    bounds: Sequence[str] = ("percentile", "cdf", "gaussian", "lipschitz"),
    seed: int = 0,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    sampling: str = "fixed",
    *,
    decision_thresholds: ReferenceValues | None = None,
    lower_bound_cap: ReferenceValues | None = None,
    tolerance: float | Mapping[str, float] = 0.02,
    threshold: float | None = None,
    p: float = 0.5,
    mean: str = "betting",
    band: str = "berk-jones",
    simultaneous: bool = False,
    precision: str = "float32",
    ids: Sequence[int] | np.ndarray | None = None,
    name: str = "",
    progress: str | None = None,
) -> pd.DataFrame:
    """Bounds on the smoothed score of each image that hold for every l2 perturbation within each radius.

    A network with randomness of its own is smoothed over that too, if every draw has fresh randomness.

    Adaptive sampling looks at the draws of an image several times. It asks what n draws would give if they went on like
    the first half of those so far, or like the second half. The image is finished once neither would change a bound by
    more than `tolerance`. A detector that has finished all images of a batch is left out of it. Every bound keeps its
    alpha however sampling stops (see oodcert.certification.adaptive).

    Args:
        detector: A Detector, or a dict of them by name. These are computed on the same draws, and share the pass
            through a denoiser that they have in common.
        images: Float tensor [N, C, H, W] in [0, 1].
        sigma: Standard deviation of the noise, in that pixel scale.
        radii: l2 radii, in that pixel scale, at least 0.
        n: Noise draws an image.
        alpha: Error probability of each single bound, that is per image, kind, radius and side.
        bounds: What is bounded, and how (see oodcert.certification.smoothing_bounds). "percentile": the p-quantile of
            s(x + δ), by default the median. "cdf" (from a `band` around the distribution), "gaussian" and "lipschitz"
            (from a `mean` bound): the expectation of a score in [0, 1]; that a callable score lies there is the
            caller's promise. "vote": the probability that s(x + δ) ≥ threshold. Unbounded scores take percentile and
            vote.
        seed: Of the noise.
        batch_size: Of every forward pass; by default 500, or fewer if images are large or the device is a CPU.
        device: Where to run, by default where the images are. The networks are moved there.
        sampling: "fixed", or "adaptive" with at most n draws.
        decision_thresholds: Of adaptive sampling, for OOD images. Only upper bounds matter then, and of them only how
            many of these values they reach; `tolerance` is a change of that share. A number is one decision threshold.
            A dict gives one or several numbers by kind of bound. A table of the ID images gives its lower bounds at
            radius 0: what an image contributes to the guaranteed AUC.
        lower_bound_cap: Of adaptive sampling, for ID images. Only lower bounds matter then, and only up to this value:
            images well above the threshold need few draws. In the same forms, with one value a kind of bound.
        tolerance: Of adaptive sampling, a number or a dict of them by detector. It is in the unit of the score or,
            where the score has no range, in standard deviations of the image's draws.
        threshold: Of the vote bound. It must not depend on the draws.
        p: Quantile of the percentile bound, in (0, 1). It must not depend on the draws.
        mean: Kind of mean bound (see oodcert.certification.mean_intervals).
        band: Kind of band (see oodcert.certification.cdf_bands).
        simultaneous: alpha is the error probability of all bounds of one kind and one detector in this result together
            (union bound over the N images, radii and sides).
        precision: Of the networks, "float32", or "bfloat16" (autocast, and on a GPU torch.compile). In bfloat16, noise
            is made on the device and is other noise than in float32. Scores and bounds are of float64 in both (see
            oodcert.certification.precision).
        ids: Sample ids that key the noise, different integers, by default the positions.
        name: Of the set; it keys the noise too. Give two sets two names for independent noise.
        progress: Label of a progress bar.

    Returns:
        A row per image, bound and radius: image (id), bound ("percentile p=…" for another p than one half, "vote at
        …"), sigma, radius, estimate, lower, upper, n (draws used), alpha (of that bound). Of a dict of detectors, after
        a column detector. lower and upper are -inf and +inf where the draws cannot certify the radius.

    Raises:
        InputError: Images lie outside [0, 1], logits or scores are NaN, a setting is unknown, or an unbounded score is
            given a mean bound.
    """
    check_images(images)
    detectors = detector if isinstance(detector, dict) else {"": detector}
    ids = list(range(len(images)) if ids is None else ids)

    # what is asked for: kinds of bounds at radii, each at a level
    request = _BoundRequest(bounds, radii, p, mean, band, threshold)
    _check(detectors, request)
    level = alpha / (2 * len(images) * len(radii)) if simultaneous else alpha
    if "cdf" in bounds:
        check_band(band, n, level)
    settings = SmoothingSettings(sigma, n, level, sampling, seed, batch_size, precision, name)

    # when an image has draws enough for it, by detector
    rules = _stopping_rules(detectors, settings, request, tolerance, decision_thresholds, lower_bound_cap)
    certifiers = {key: _ScoreCertifier(one, request, sigma, rules[key]) for key, one in detectors.items()}

    # scores under noise, until every detector has draws enough, and the bounds that follow from them
    looks, _ = settings.schedule()
    certificates = certify_jointly(certifiers, images, ids, looks, settings, device or images.device, progress)
    table = _table(certificates, ids, request, sigma, level)
    return table if isinstance(detector, dict) else table.drop(columns="detector")


@dataclass(frozen=True)
class _BoundRequest:
    """Which bounds are asked for, and how they are computed (see `certify`)."""

    kinds: Sequence[str]
    radii: Sequence[float]
    p: float
    mean: str
    band: str
    threshold: float | None

    def labels(self) -> dict[str, str]:
        """Kind of bound -> its name in the table: values of different p or threshold are not to be compared."""
        labels = {kind: kind for kind in self.kinds}
        if "vote" in labels:
            labels["vote"] = f"vote at {self.threshold:g}"
        if "percentile" in labels and self.p != 0.5:
            labels["percentile"] = f"percentile p={self.p:g}"
        return labels

    def compute(
        self, draws: np.ndarray, sigma: float, alpha: float, kinds: Sequence[str] | None = None
    ) -> dict[str, ScoreBounds]:
        """Bounds from draws [n], of all kinds or of some."""
        return score_bounds(
            self.kinds if kinds is None else kinds,
            draws,
            sigma,
            self.radii,
            alpha,
            p=self.p,
            mean=self.mean,
            band=self.band,
            threshold=self.threshold,
        )

    def check(self) -> None:
        if isinstance(self.kinds, str):
            raise InputError(f"bounds = {self.kinds!r}: give a list, such as [{self.kinds!r}].")
        if not self.kinds or not set(self.kinds) <= set(BOUNDS):
            raise InputError(f"bounds = {list(self.kinds)}: use one or more of {', '.join(BOUNDS)}.")
        if ("vote" in self.kinds) != (self.threshold is not None):
            raise InputError(
                f"bounds = {list(self.kinds)} with threshold = {self.threshold}: the vote bound, and no other, needs "
                "one."
            )
        if self.threshold is not None and not np.isfinite(self.threshold):
            raise InputError(f"threshold = {self.threshold}: it must be a finite score.")
        if not len(self.radii) or not all(0 <= radius < np.inf for radius in self.radii):
            raise InputError(f"radii = {list(self.radii)}: give one or more finite radii of at least 0.")
        if not 0 < self.p < 1:
            raise InputError(f"p = {self.p}: a quantile lies between 0 and 1.")


def _check(detectors: Mapping[str, Detector], request: _BoundRequest) -> None:
    if not detectors:
        raise InputError("No detector was given: pass one, or a dict of them by name.")
    request.check()
    if any(one.unbounded for one in detectors.values()) and not set(request.kinds) <= set(RANGE_FREE_BOUNDS):
        raise InputError(
            f"bounds = {list(request.kinds)}: an unbounded score has no bounded mean, use {list(RANGE_FREE_BOUNDS)} "
            "for it, or the score msp."
        )


def _stopping_rules(
    detectors: Iterable[str],
    settings: SmoothingSettings,
    request: _BoundRequest,
    tolerance: float | Mapping[str, float],
    decision_thresholds: ReferenceValues | None,
    lower_bound_cap: ReferenceValues | None,
) -> dict[str, StoppingRule]:
    """Detector -> when its draws of an image are enough, from the arguments of `certify`."""
    if decision_thresholds is not None and lower_bound_cap is not None:
        raise InputError(
            "Both decision_thresholds and lower_bound_cap are given: the first is for OOD images, the second for ID "
            "images."
        )
    labels, rules = request.labels(), {}
    for name in detectors:
        thresholds = _values_by_kind("decision_thresholds", decision_thresholds, name, labels)
        caps = _values_by_kind("lower_bound_cap", lower_bound_cap, name, labels)
        if caps and any(len(several) > 1 for several in caps.values()):
            raise InputError("`lower_bound_cap` has several values for one kind of bound: give one.")
        own_tolerance = tolerance[name] if isinstance(tolerance, Mapping) else tolerance
        rules[name] = StoppingRule(*settings.schedule(), own_tolerance, thresholds, caps)
    return rules


def _values_by_kind(
    argument: str, given: ReferenceValues | None, detector: str, labels: Mapping[str, str]
) -> dict[str, np.ndarray] | None:
    """Kind of bound -> sorted values [M] that this detector's bounds are compared with; None where none are given."""
    values: Mapping[str, Any]
    if given is None:
        return None
    if isinstance(given, pd.DataFrame):
        rows = given[given["radius"] == 0]
        if "detector" in rows:
            rows = rows[rows["detector"] == detector]
        by_label = {label: group["lower"].to_numpy() for label, group in rows.groupby("bound")}
        values = {kind: by_label[label] for kind, label in labels.items() if label in by_label}
    else:
        values = given if isinstance(given, Mapping) else dict.fromkeys(labels, given)
    missing = set(labels) - set(values)
    if missing:
        raise InputError(
            f"`{argument}` has no values for {', '.join(sorted(missing))} (of a table: at radius 0): add them."
        )
    return {kind: np.sort(np.atleast_1d(values[kind])) for kind in labels}


@dataclass
class ScoredNetwork:
    """A detector's network, and its score as the value of a draw: in float64, NaN where the logits are not finite."""

    detector: Detector

    @property
    def network(self) -> nn.Module:
        """The detector's network."""
        return self.detector.network

    def values(self, logits: Tensor, finite: Tensor) -> Tensor:
        """Scores [B] in float64 of logits [B, K], NaN where `finite` [B] is false."""
        scores = self.detector.score_of(logits.to(torch.float64))
        if scores.shape != finite.shape:
            raise InputError(
                f"The score gave {tuple(scores.shape)} for {len(finite)} images: one number an image is needed."
            )
        return scores.where(finite, torch.nan)

    def refuse(self, values: np.ndarray) -> None:
        """Raises InputError where scores [B] are NaN."""
        missing = np.isnan(values)
        if self.detector.score_of in SCORES.values():
            refuse_rows(self.network, missing)
        elif missing.any():
            raise InputError(
                f"The score of {type(self.network).__name__} is NaN, or its logits are not finite, for {missing.sum()} "
                f"of {len(missing)} images: one number an image is needed."
            )


def marked_scores(detectors: Mapping[str, Detector], batch: Tensor, precision: str) -> Tensor:
    """Scores a batch by every detector, without waiting for the device.

    Args:
        detectors: By name; each maps images [B, C, H, W] to scores [B].
        batch: Images [B, C, H, W] on the device of the networks.
        precision: Of the networks: "float32" or "bfloat16".

    Returns:
        Scores [B, D] of D detectors, in their order; NaN where a detector has no finite score.

    Raises:
        InputError: A score has another shape, or one of several networks changes the batch in place.
    """
    return network_values({name: ScoredNetwork(one) for name, one in detectors.items()}, batch, precision)


def refuse_scores(detectors: Mapping[str, Detector], scores: np.ndarray) -> None:
    """Refuses scores that are missing.

    Args:
        detectors: As of marked_scores.
        scores: Its result [B, D], on the host.

    Raises:
        InputError: A score is NaN.
    """
    refuse_values({name: ScoredNetwork(one) for name, one in detectors.items()}, scores)


class _ScoreCertificate(NamedTuple):
    drawn: int
    bounds: dict[str, ScoreBounds]  # by kind


@dataclass
class _ScoreCertifier(ScoredNetwork):
    """The certificates of one detector: its draws are scores."""

    request: _BoundRequest
    sigma: float
    rule: StoppingRule
    doubtful: str | None = None  # the kind of bound that last asked for more draws, to be tried first

    def is_converged(self, draws: np.ndarray) -> bool:
        """Whether further draws would change no bound by more than the tolerance."""
        kinds = sorted(self.request.kinds, key=self._order)
        self.doubtful = next((kind for kind in kinds if not self._kind_is_converged(kind, draws)), None)
        return self.doubtful is None

    def certificate(self, draws: np.ndarray) -> _ScoreCertificate:
        level = self.rule.level(len(draws))
        return _ScoreCertificate(len(draws), self.request.compute(draws, self.sigma, level))

    def _order(self, kind: str) -> bool:
        return kind != self.doubtful

    def _kind_is_converged(self, kind: str, draws: np.ndarray) -> bool:
        now = self._bounds(kind, draws, self.rule.level(len(draws)))
        forecasts = (self._bounds(kind, one, self.rule.levels[-1]) for one in self.rule.forecasts(draws))
        in_deviations = self.detector.unbounded and self.rule.decision_thresholds is None
        return self.rule.is_converged(kind, now, forecasts, draws.std() if in_deviations else 1)

    def _bounds(self, kind: str, draws: np.ndarray, alpha: float) -> ScoreBounds:
        return self.request.compute(draws, self.sigma, alpha, [kind])[kind]


def _table(
    certificates: Mapping[str, Sequence[_ScoreCertificate]],
    ids: Sequence[int],
    request: _BoundRequest,
    sigma: float,
    alpha: float,
) -> pd.DataFrame:
    """A row per detector, image, bound and radius."""
    tables = [
        pd.DataFrame({"detector": name, **_columns(several, ids, request, sigma, alpha)})
        for name, several in certificates.items()
    ]
    return pd.concat(tables, ignore_index=True)


def _columns(
    certificates: Sequence[_ScoreCertificate], ids: Sequence[int], request: _BoundRequest, sigma: float, alpha: float
) -> dict[str, Any]:
    """The columns of one detector's rows."""
    labels, radii, count = request.labels(), request.radii, len(ids)
    cells = len(labels) * len(radii)

    def flat(field: int) -> np.ndarray:
        return np.array(
            [[np.broadcast_to(one.bounds[kind][field], len(radii)) for kind in labels] for one in certificates]
        ).ravel()

    return {
        "image": np.repeat(np.array(ids), cells),
        "bound": np.repeat(list(labels.values()), len(radii)).tolist() * count,
        "sigma": sigma,
        "radius": np.tile(np.asarray(radii, np.float64), count * len(labels)),
        "estimate": flat(0),
        "lower": flat(1),
        "upper": flat(2),
        "n": np.repeat([one.drawn for one in certificates], cells),
        "alpha": alpha,
    }
