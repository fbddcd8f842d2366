"""The quantities that claims are about, measured on a run's evidence and on its bootstrap resamples.

All values are in %, arrays [1 + RESAMPLES]. The first is what the tables show, the others are of the resamples of
oodcert.statistics.bootstrap. Resamples of one set are the same for all methods and quantities, so differences are
paired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oodcert.certification.roc_bounds import certified_auc, roc_curve_bounds
from oodcert.config.models import Config
from oodcert.errors import InputError
from oodcert.evidence.selection import rows_at, rows_of_method, rows_of_set
from oodcert.evidence.store import Evidence
from oodcert.reporting.claims import SETTINGS
from oodcert.reporting.display_names import label
from oodcert.reporting.tables.one_pass import draws_of, statement_of
from oodcert.reporting.tables.sanity import sanity_table
from oodcert.reporting.tables.values import PROTOCOLS, WORST_CASE, l2_metric
from oodcert.runtime.keyed_noise import derive_seed
from oodcert.statistics.bootstrap import ADDED, detection_auc, detection_metrics, drawn, moved_auc, with_added
from oodcert.statistics.failing_bounds import CONFIDENCE, bounds_at_confidence, table_error
from oodcert.statistics.metrics import METRICS

OOD_SCORES = {  # protocol -> evaluation and column
    "clean": ("clean", "score"),
    "guaranteed": ("guarantee_linf", "upper"),
    "adversarial": ("attack_linf", "attacked"),
}


class NotMeasured(Exception):
    """A quantity that the configuration does not evaluate; the message names the setting that lacks."""


class Measures:
    """The quantities of one run, each computed once.

    A method that is named after a quantity takes a method's name, the quantity's settings, and `favoured`: whether the
    value stands on the claim's side of a comparison (see oodcert.statistics.bootstrap). It raises NotMeasured if the
    configuration lacks a setting. It raises InputError if evidence is missing, or methods were evaluated on different
    images.

    Args:
        evidence: the run's, as for the tables.
        config: the run's.
        beyond: whether the images that are added to the resamples rank beyond all others.
    """

    def __init__(self, evidence: Evidence, config: Config, beyond: bool = True) -> None:
        self._evidence, self._config, self._beyond = evidence, config, beyond
        self._values: dict[tuple, np.ndarray] = {}
        self._metrics: dict[tuple[str, str, bool], dict[str, np.ndarray]] = {}
        self._resamples: dict[tuple[str, int], np.ndarray] = {}
        self._samples: dict[tuple[str, int], np.ndarray] = {}

    @cached_property
    def within(self) -> Measures:
        """The same with added images that rank with the extremes seen: for the upper ends of single values."""
        other = Measures(self._evidence, self._config, beyond=False)
        other._resamples, other._samples = self._resamples, self._samples
        return other

    def value(self, quantity: str, favoured: bool, **settings: Any) -> np.ndarray:
        """One of QUANTITIES, in %, [1 + RESAMPLES]."""
        key = (quantity, favoured, *sorted(settings.items()))
        if key not in self._values:
            self._values[key] = 100 * QUANTITIES[quantity](self, favoured=favoured, **settings)
        return self._values[key]

    def too_favourable(self, quantity: str, method: str, protocol: str | None = None, **_: Any) -> bool:
        """Whether the value rests on an attack on OOD images that fails a sanity check: the truth may be lower."""
        attacked = quantity == "headline" or protocol == "adversarial"
        return attacked and not self._reliable[method]

    def detection(self, method: str, protocol: str, metric: str, favoured: bool) -> np.ndarray:
        """AUC or AUPR over the OOD sets under a protocol: clean, guaranteed or adversarial (l-infinity)."""
        return self._detection(method, protocol, favoured)[metric]

    def headline(self, method: str, favoured: bool) -> np.ndarray:
        """The mean of AUC, AUPR and 1 - FPR95 over the three protocols."""
        metrics = [self._detection(method, protocol, favoured) for protocol in PROTOCOLS]
        return np.mean([(one["auc"], one["aupr"], 1 - one["fpr95"]) for one in metrics], axis=(0, 1))

    def guaranteed_l2(self, method: str, bound: str, sigma: float, radius: float, favoured: bool) -> np.ndarray:
        """Guaranteed AUC over the OOD sets in the l2 ball, by a bound on the smoothed score, as in the l2 table."""
        settings = self._config.evaluation.certify_l2
        _require("σ", sigma, settings.sigmas)
        _require("R", radius, settings.radii)
        if bound not in self._config.methods[method].admitted_bounds(settings.bounds):
            raise NotMeasured(f"no {bound} bound for {label(method)}")
        if l2_metric(self._config) != "auc":
            raise NotMeasured("no AUC in ℓ₂ balls: adaptive sampling settles FPR95 alone")
        rows = rows_at(rows_of_method(self._evidence, "certify_l2", method), "certify_l2", "sigma", sigma)
        rows = rows_at(rows, "certify_l2", "bound", bound)
        error = table_error(CONFIDENCE, len(self._config.data.ood))

        def bounds(at: float, name: str, side: str) -> pd.Series:
            chosen = self._of_set(rows_at(rows, "certify_l2", "radius", at), "certify_l2", name)
            return pd.Series(bounds_at_confidence(chosen, side, error))

        upper = {name: bounds(radius, name, "upper") for name in self._config.data.ood}
        return self._average_auc(bounds(0.0, "id", "lower"), upper, favoured)

    def certified_one_pass(self, method: str, sigma: float, radius: float, favoured: bool) -> np.ndarray:
        """Certified AUC over the OOD sets of the detector that takes one pass a query, as in the l2 table.

        The first value is certified. The resamples differ from it as the noisy ROC of the resampled images, moved by
        radius / sigma, differs from that of all images.

        Args:
            method: its name.
            sigma: of the noise.
            radius: l2 radius.
            favoured: as of oodcert.statistics.bootstrap.

        Returns:
            The values, [1 + RESAMPLES], in [0, 1].
        """
        settings = self._config.evaluation.one_pass
        if settings is None:
            raise NotMeasured("no certificate of one pass a query")
        _require("σ", sigma, settings.sigmas)
        _require("R", radius, self._config.evaluation.certify_l2.radii)
        rows = rows_at(rows_of_method(self._evidence, "one_pass", method), "one_pass", "sigma", sigma)
        statement, by_set = statement_of(self._config, settings), []
        known = draws_of(rows_of_set(rows, "one_pass", "id"))
        for name in self._config.data.ood:
            strange = draws_of(rows_of_set(rows, "one_pass", name))
            curve = roc_curve_bounds(known, strange, statement)
            certified = certified_auc(known, strange, curve, radius / sigma, statement)
            drawn_of = (self._draws("id", len(known)), self._draws(name, len(strange)))
            moved = moved_auc(known, strange, radius / sigma, *drawn_of, favoured, self._beyond)
            by_set.append(np.clip(certified + moved - moved[0], 0, 1))
        return np.asarray(np.mean(by_set, axis=0))

    def accuracy(self, method: str, favoured: bool) -> np.ndarray:
        """Clean accuracy on the ID test images."""
        rows = rows_of_method(self._evidence, "clean", method)
        rows = rows[rows["set"].isin(["id", "id_more"])].assign(set="id")
        rows = self._of_set(rows, "clean", "id")
        return self._share(rows["prediction"] == rows["label"], favoured)

    def adversarial_accuracy(self, method: str, epsilon: float, favoured: bool) -> np.ndarray:
        """ID accuracy under AutoAttack in the l-infinity ball of radius epsilon."""
        _require("ε", epsilon, self._config.evaluation.attack_id.epsilons)
        rows = rows_at(rows_of_method(self._evidence, "attack_id", method), "attack_id", "epsilon", epsilon)
        rows = self._of_set(rows_at(rows, "attack_id", "attack", WORST_CASE), "attack_id", "id")
        return self._share(rows["correct"], favoured)

    def certified_accuracy(self, method: str, sigma: float, radius: float, favoured: bool) -> np.ndarray:
        """ID accuracy certified at an l2 radius under noise of sigma."""
        settings = self._config.evaluation.certify_id
        _require("σ", sigma, settings.sigmas)
        _require("R", radius, settings.radii)
        rows = rows_at(rows_of_method(self._evidence, "certify_id", method), "certify_id", "sigma", sigma)
        rows = self._of_set(rows, "certify_id", "id")
        return self._share(rows["correct"] & (rows["prediction"] >= 0) & (rows["radius"] >= radius), favoured)

    @cached_property
    def _reliable(self) -> pd.Series:
        return sanity_table(self._evidence, self._config).set_index("method")["reliable"]

    def _detection(self, method: str, protocol: str, favoured: bool) -> dict[str, np.ndarray]:
        key = (method, protocol, favoured)
        if key not in self._metrics:
            id_scores = self._of_set(rows_of_method(self._evidence, "clean", method), "clean", "id")["score"]
            evaluation, column = OOD_SCORES[protocol]
            rows, ood_scores = rows_of_method(self._evidence, evaluation, method), {}
            if protocol != "clean":
                rows = rows_at(rows, evaluation, "epsilon", self._config.evaluation.epsilon)
            for name in self._config.data.ood:
                chosen = self._of_set(rows, evaluation, name)
                ood_scores[name] = chosen[column]
                if protocol == "guaranteed":  # a vacuous bound is the worst value, also where it equals some ID score
                    ood_scores[name] = ood_scores[name].mask(chosen["vacuous"], np.inf)
            self._metrics[key] = self._average(id_scores, ood_scores, protocol == "guaranteed", favoured)
        return self._metrics[key]

    def _average(
        self, id_scores: pd.Series, ood_scores: Mapping[str, pd.Series], guaranteed: bool, favoured: bool
    ) -> dict[str, np.ndarray]:
        """The metrics' means over the OOD sets, each [1 + RESAMPLES]."""
        by_set = [detection_metrics(*one, guaranteed) for one in self._resampled(id_scores, ood_scores, favoured)]
        return {metric: np.mean([metrics[metric] for metrics in by_set], axis=0) for metric in METRICS}

    def _average_auc(
        self, id_scores: pd.Series, ood_scores: Mapping[str, pd.Series], favoured: bool
    ) -> NDArray[np.float64]:
        """The mean of the AUC over the OOD sets, [1 + RESAMPLES]."""
        by_set = [detection_auc(*one) for one in self._resampled(id_scores, ood_scores, favoured)]
        return np.asarray(np.mean(by_set, axis=0))

    def _resampled(
        self, id_scores: pd.Series, ood_scores: Mapping[str, pd.Series], favoured: bool
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]]:
        """For each OOD set the ranks of the ID images and of its images, and how often each of them is drawn."""
        for name, scores in ood_scores.items():
            if np.isnan(id_scores).any() or np.isnan(scores).any():
                raise InputError(f"Scores of ID images or of {name} are NaN: run the evaluation again.")
            ranks = with_added(id_scores.to_numpy(), scores.to_numpy(), favoured, self._beyond)
            yield *ranks, self._draws("id", len(id_scores)), self._draws(name, len(scores))

    def _share(self, holds: pd.Series, favoured: bool) -> np.ndarray:
        """The share of images for which something holds, [1 + RESAMPLES]."""
        right = np.append(holds.to_numpy(), (True, False) if favoured else (False, True)).astype(np.int64)
        draws = self._draws("id", len(right) - ADDED)
        return draws @ right / draws.sum(axis=1)

    def _draws(self, name: str, images: int) -> np.ndarray:
        key = (name, images)
        if key not in self._resamples:
            self._resamples[key] = drawn(images, derive_seed(self._config.seed, "bootstrap", name, images))
        return self._resamples[key]

    def _of_set(self, rows: pd.DataFrame, evaluation: str, name: str) -> pd.DataFrame:
        """The rows of one set in the order of their images, which must be the same for all methods."""
        rows = rows_of_set(rows, evaluation, name).sort_values("sample", kind="stable", ignore_index=True)
        samples = self._samples.setdefault((name, len(rows)), rows["sample"].to_numpy())
        if not np.array_equal(samples, rows["sample"]) or rows["sample"].duplicated().any():
            raise InputError(
                f"The {evaluation} evidence of method {rows['method'].iloc[0]!r} is not of the same images of {name!r} "
                "as the others': no paired comparison is possible. Run the evaluation again."
            )
        return rows


QUANTITIES: dict[str, Callable[..., np.ndarray]] = {name: getattr(Measures, name) for name in SETTINGS}


def _require(name: str, value: float, values: Sequence[float]) -> None:
    if not np.isclose(value, values).any():
        raise NotMeasured(f"no {name} = {value:g} in this run")
