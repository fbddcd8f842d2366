"""The certificate of a detector's smoothed score: bounds that hold for every l2 perturbation within a radius."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from oodcert.certification.adaptive import StoppingRule
from oodcert.certification.cdf_bands import check_band
from oodcert.certification.given import by_name, checked_images, checked_radii, checked_settings
from oodcert.certification.joint_sampling import SmoothingSettings, certify_jointly, network_values, refuse_values
from oodcert.certification.smoothing_bounds import BOUNDS, ScoreBounds, score_bounds
from oodcert.config.method_specs import RANGE_FREE_BOUNDS
from oodcert.errors import InputError
from oodcert.models.calls import evaluation_mode
from oodcert.models.checks import refuse_rows
from oodcert.models.detector import Detector
from oodcert.models.scores import SCORES
from oodcert.runtime.values import number, score_array

# values that bounds are compared with: one for all kinds, one or several a kind, or a table of `certify`
ReferenceValues: TypeAlias = float | Mapping[str, Any] | pd.DataFrame


def certify(
    detector: Detector | dict[str, Detector],
    images: Tensor | ArrayLike,
    sigma: float,
    radii: Sequence[float] | float = (0.0, 0.25, 0.5),
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
        images: Float tensor or array [N, C, H, W] in [0, 1].
        sigma: Standard deviation of the noise, in that pixel scale.
        radii: l2 radii, in that pixel scale, at least 0; one or several.
        n: Noise draws an image.
        alpha: Error probability of each single bound, that is per image, kind, radius and side, below one half.
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
        ids: Sample ids that key the noise, different integers in [0, 2**63), by default the positions.
        name: Of the set; it keys the noise too. Give two sets two names for independent noise.
        progress: Label of a progress bar.

    Returns:
        A row per image, bound and radius: image (id), bound ("percentile p=…" for another p than one half, "vote at
        …"), sigma, radius, estimate, lower, upper, n (draws used), alpha (of that bound). Of a dict of detectors, after
        a column detector. lower and upper are -inf and +inf where the draws cannot certify the radius.

    Raises:
        InputError: Images lie outside [0, 1], logits or scores are NaN, a setting is unknown, an unbounded score is
            given a mean bound, or a network gives no score to an image alone (docs/inputs.md).
    """
    given, detectors = checked_images(images, ids, device), by_name(detector, "detector")

    # what is asked for: kinds of bounds at radii, each at a level
    request = _BoundRequest(_kinds(bounds), checked_radii(radii), p, mean, band, threshold).checked()
    settings = checked_settings(SmoothingSettings(sigma, n, alpha, sampling, seed, batch_size, precision, name))
    level = settings.alpha / (2 * len(given.ids) * len(request.radii)) if simultaneous else settings.alpha
    settings = replace(settings, alpha=level)
    _check(detectors, request, settings)
    if "cdf" in request.kinds:
        check_band(band, settings.n, level)

    # when an image has draws enough for it, by detector
    rules = _stopping_rules(detectors, settings, request, tolerance, decision_thresholds, lower_bound_cap)
    certifiers = {key: _ScoreCertifier(one, request, settings.sigma, rules[key]) for key, one in detectors.items()}
    for one in detectors.values():
        with evaluation_mode(one.network.to(given.images.device)):
            one.try_on(given.images[:1].float())

    # scores under noise, until every detector has draws enough, and the bounds that follow from them
    looks, _ = settings.schedule()
    certificates = certify_jointly(certifiers, given.images, given.ids, looks, settings, progress)
    table = _table(certificates, given.ids, request, settings.sigma, level)
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
        if self.threshold is not None:
            labels["vote"] = f"vote at {_shortest(self.threshold)}"
        if "percentile" in labels and self.p != 0.5:
            labels["percentile"] = f"percentile p={_shortest(self.p)}"
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

    def checked(self) -> "_BoundRequest":
        """The same with plain numbers; InputError where something else is asked for."""
        if not self.kinds or not set(self.kinds) <= set(BOUNDS):
            raise InputError(f"bounds = {list(self.kinds)}: use one or more of {', '.join(BOUNDS)}.")
        if ("vote" in self.kinds) != (self.threshold is not None):
            raise InputError(
                f"bounds = {list(self.kinds)} with threshold = {self.threshold}: the vote bound, and no other, needs "
                "one."
            )
        threshold = self.threshold
        if threshold is not None:
            threshold = number("threshold", threshold, isfinite, "it must be a finite score")
        p = number("p", self.p, lambda p: 0 < p < 1, "a quantile lies between 0 and 1")
        return replace(self, p=p, threshold=threshold)


def _kinds(bounds: Any) -> list[str]:
    if isinstance(bounds, str):
        raise InputError(f"bounds = {bounds!r}: give a list, such as [{bounds!r}].")
    if not isinstance(bounds, Iterable):
        raise InputError(f"bounds = {bounds!r}: give a list of some of {', '.join(BOUNDS)}.")
    return list(dict.fromkeys(str(kind) for kind in bounds))


def _shortest(value: float) -> str:
    """The shortest usual text of a number that is that number."""
    text = f"{value:g}"
    return text if float(text) == value else repr(value)


def _check(detectors: Mapping[str, Any], request: _BoundRequest, settings: SmoothingSettings) -> None:
    for one in detectors.values():
        if not isinstance(one, Detector):
            raise InputError(f"A detector is needed, got {type(one).__name__}: give oodcert.Detector(network).")
    if any(one.unbounded for one in detectors.values()) and not set(request.kinds) <= set(RANGE_FREE_BOUNDS):
        raise InputError(
            f"bounds = {list(request.kinds)}: an unbounded score has no bounded mean, use {list(RANGE_FREE_BOUNDS)} "
            "for it, or the score msp."
        )
    request.compute(np.array([0.25, 0.75]), settings.sigma, settings.alpha)  # refuses unknown means and bands


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
        own_tolerance = _tolerance(tolerance, name)
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
        absent = {"bound", "radius", "lower"} - set(given)
        if absent:
            raise InputError(
                f"`{argument}` is a table without {', '.join(sorted(absent))}: give one of oodcert.certify."
            )
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
    return {kind: _reference_values(argument, kind, values[kind]) for kind in labels}


def _reference_values(argument: str, kind: str, values: Any) -> np.ndarray:
    """Sorted values [M], at least one."""
    needed = "give one or more scores, none of them NaN"
    several = isinstance(values, Iterable) and getattr(values, "ndim", 1) > 0
    array = np.sort(score_array(f"`{argument}`", values if several else [values]))
    if not array.size or np.isnan(array).any():
        raise InputError(f"`{argument}` of the bound {kind}: {needed}.")
    return array


def _tolerance(tolerance: Any, detector: str) -> float:
    if isinstance(tolerance, Mapping):
        if detector not in tolerance:
            raise InputError(f"`tolerance` has no value for the detector {detector!r}: add it, or give one number.")
        tolerance = tolerance[detector]
    return number("tolerance", tolerance, lambda t: 0 <= t < np.inf, "a finite number of at least 0 is needed")


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
        return self.detector.score_logits(logits).where(finite, torch.nan)

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
