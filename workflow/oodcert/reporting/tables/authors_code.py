"""What the authors' code reports on this run's networks, with one flag corrected, or all.

corrected_flag is "" (none), a flag, or "all", as of oodcert.authors_code.flags.protocol. A protocol is the set of flags
that stay as the authors' code has them. The functions raise InputError where evidence is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
import pandas as pd

from oodcert.authors_code.flags import ALL, GROUPS, LOADER_BATCH, protocol
from oodcert.authors_code.l2 import certificate, l2_scores, own_radii
from oodcert.config.method_specs import MethodSpec
from oodcert.config.models import AuthorsCodeSettings, Config
from oodcert.data.noise_sets import NOISE
from oodcert.errors import InputError
from oodcert.evidence.order_checks import ROUNDING
from oodcert.evidence.selection import rows_at, rows_of_method
from oodcert.evidence.store import Evidence
from oodcert.reporting.tables.values import (
    PROTOCOLS,
    adversarial_column,
    certified_column,
    guaranteed_l2_table,
    id_table,
    l2_metric,
    ood_table,
)
from oodcert.statistics.metrics import METRICS, ood_metrics

SURPLUS = 10  # ID images for each OOD image (D21)
QUANTITIES = {"clean": "score", "guaranteed": "bound", "adversarial": "attacked"}

Measures = dict[str, float]  # name of a measure -> value


def settings_of(config: Config) -> AuthorsCodeSettings:
    """The settings of the evaluation of the authors' code.

    Args:
        config: the run's.

    Returns:
        The settings.

    Raises:
        InputError: if the configuration does not evaluate it.
    """
    settings = config.evaluation.authors_code
    if settings is None:
        raise InputError(
            "Config key evaluation.authors_code is null, so the authors' code is not evaluated: give it settings, such "
            "as {images: 20, n0: 100, n: 800}."
        )
    return settings


def measured(
    evidence: Evidence, config: Config, corrected_flag: str = "", groups: Collection[str] = tuple(GROUPS)
) -> pd.DataFrame:
    """A row per method x measure: method, measure, value.

    These are the measures. Shares are of the images of a set that the authors' code is evaluated on.

    - <clean | guaranteed | adversarial>_<auc | aupr | fpr95>: averages over the OOD sets.
    - headline: the mean of the nine, with 1 - FPR95.
    - violations: the share of OOD images whose attacked score is above its bound.
    - l2_auc_<R>: the guaranteed l2 AUC; NaN if nothing is certified.
    - l2_population_<R>: the share of OOD images that enter it.
    - l2_highest: the highest value that counts as a confidence.
    - id_accuracy and id_certified_<R>: shares of the ID images.
    - id_adversarial, of randomised methods: the same under AutoAttack at the largest radius.
    - single_image, of joint models: 1 if the bound of one image alone can be computed.

    Args:
        evidence: rows of authors_code; for "all" those of the other evaluations too.
        config: the run's.
        corrected_flag: "", a flag, or "all". "all" takes the values from the evidence of the other evaluations, on the
            same images, by the functions of the other tables. l2_auc and l2_highest are NaN if that evidence was
            sampled adaptively.
        groups: those of oodcert.authors_code.flags.GROUPS that are wanted; for "all" they are not used.

    Returns:
        The rows.

    Raises:
        InputError: if evidence is missing.
    """
    by_method = (
        _sound(evidence, config) if corrected_flag == ALL else _by_their_code(evidence, config, corrected_flag, groups)
    )
    rows = [(method, measure, value) for method, measures in by_method.items() for measure, value in measures.items()]
    return pd.DataFrame(rows, columns=["method", "measure", "value"]).astype({"value": float})


def authors_code_ood_table(evidence: Evidence, config: Config, corrected_flag: str = "") -> pd.DataFrame:
    """A row per method x OOD set x protocol (clean, guaranteed, adversarial): auc, aupr, fpr95."""
    flags, rows = protocol(corrected_flag), []
    for method, method_spec in config.methods.items():
        values = _Values(evidence, method, corrected_flag)
        id_scores = np.repeat(values["score", "id"], SURPLUS if "D21" in flags else 1)
        for name in config.data.ood:
            for kind in PROTOCOLS:
                scores = values[QUANTITIES[kind], name]
                if "D20" in flags and name in NOISE:
                    scores = scores[repeated(len(scores), LOADER_BATCH[method_spec.denoiser])]
                rows.append({"method": method, "set": name, "protocol": kind, **ood_metrics(id_scores, scores)})
    return pd.DataFrame(rows)


def repeated(count: int, batch: int) -> np.ndarray:
    """Which of its images a stateful noise set gives at each of `count` places of a loader with two workers (D20).

    Each worker draws from a copy of the same generator and has every other batch. So batches come in equal pairs.

    Args:
        count: places of the loader.
        batch: images of a batch.

    Returns:
        Positions [count].
    """
    place = np.arange(count)
    return place // (2 * batch) * batch + place % batch


class _Values:
    """The evidence of the authors' code on one method: [quantity, set] gives an array of values.

    Values with the flag `corrected_flag` corrected are taken where they were computed separately.
    """

    def __init__(self, evidence: Evidence, method: str, corrected_flag: str) -> None:
        rows = rows_of_method(evidence, "authors_code", method)
        self._places = rows.groupby(["quantity", "set", "corrected_flag"], sort=False).indices
        self._values, self._method, self._flag = rows["value"].to_numpy(), method, corrected_flag

    def __getitem__(self, key: tuple[str, str]) -> np.ndarray:
        if (*key, "") not in self._places:
            raise InputError(
                f"The authors_code evidence of method {self._method!r} has no {key[0]} of the set {key[1]!r}: run that "
                "evaluation again."
            )
        return self._values[self._places.get((*key, self._flag), self._places[*key, ""])]

    def on_sets(self, quantity: str, names: Sequence[str]) -> np.ndarray:
        """The values on several sets, one set after another."""
        return np.concatenate([self[quantity, name] for name in names])


def _by_their_code(
    evidence: Evidence, config: Config, corrected_flag: str, groups: Collection[str]
) -> dict[str, Measures]:
    """Method -> measures, of the evidence of the authors' code."""
    by_method: dict[str, Measures] = {method: {} for method in config.methods}
    flags = protocol(corrected_flag)
    if "linf" in groups:
        by_method = _detection(authors_code_ood_table(evidence, config, corrected_flag))
    for method, method_spec in config.methods.items():
        values, measures = _Values(evidence, method, corrected_flag), by_method[method]
        if "linf" in groups:
            attacked, bound = (values.on_sets(quantity, config.data.ood) for quantity in ("attacked", "bound"))
            measures["violations"] = _share_above(attacked, bound)
        if "l2" in groups:
            measures |= _l2(values, method_spec, config, flags)
        if "id" in groups:
            measures |= _labels(values, method_spec, config, flags)
        if "single" in groups and method_spec.discriminator:
            measures["single_image"] = values["single_image", "id"].min()
    return by_method


def _sound(evidence: Evidence, config: Config) -> dict[str, Measures]:
    """Method -> measures, of the other evaluations' evidence on the images that the authors' code is evaluated on."""
    few, settings = _same_images(evidence), config.evaluation
    by_method = _detection(ood_table(few, config).query("set != 'average'"))
    accuracies = id_table(few, config).set_index("method")
    for method, method_spec in config.methods.items():
        measures = by_method[method]
        attacked = rows_of_method(few, "attack_linf", method).merge(rows_of_method(few, "guarantee_linf", method))
        measures["violations"] = _share_above(attacked["attacked"], attacked["upper"])
        measures |= _sound_l2(few, config, method)
        measures["id_accuracy"] = accuracies.loc[method, "clean_accuracy"]
        if method_spec.is_randomised:
            largest = max(settings.attack_id.epsilons)
            measures["id_adversarial"] = accuracies.loc[method, adversarial_column(largest)]
        for radius in settings.certify_id.radii:
            measures[f"id_certified_{radius:g}"] = accuracies.loc[method, certified_column(settings.sigma, radius)]
        if method_spec.discriminator:
            measures["single_image"] = 1.0
    return by_method


def _sound_l2(evidence: Evidence, config: Config, method: str) -> Measures:
    sigma, method_spec = config.evaluation.sigma, config.methods[method]
    bound = certificate(method_spec, config.evaluation.certify_l2.bounds)
    one = config.changed(
        methods={method: method_spec}, evaluation={"certify_l2": {"sigmas": (sigma,), "bounds": (bound,)}}
    )
    table = guaranteed_l2_table(evidence, one, confidence=None).query("set == 'average'")  # as their code has none
    measures: Measures = {}
    known = 1.0 if l2_metric(config) == "auc" else np.nan
    for radius, auc in zip(table["radius"], table["auc"], strict=True):
        measures |= {f"l2_auc_{radius:g}": known * auc, f"l2_population_{radius:g}": 1.0}
    if method_spec.is_unbounded:
        return measures
    rows = rows_at(rows_of_method(evidence, "certify_l2", method), "certify_l2", "sigma", sigma)
    rows = rows_at(rows, "certify_l2", "bound", bound)
    is_id = rows["set"] == "id"
    highest = max(rows.loc[is_id & (rows["radius"] == 0), "lower"].max(), rows.loc[~is_id, "upper"].max())
    return measures | {"l2_highest": known * highest}


def _same_images(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """The evidence of the images alone that the authors' code is evaluated on."""
    scores = evidence["authors_code"].query("quantity == 'score'")
    kept = pd.MultiIndex.from_frame(scores[["set", "sample"]].drop_duplicates())
    few = dict(evidence)
    for name in ("clean", "guarantee_linf", "attack_linf", "certify_l2", "certify_id", "attack_id"):
        few[name] = evidence[name][pd.MultiIndex.from_frame(evidence[name][["set", "sample"]]).isin(kept)]
    return few


def _detection(table: pd.DataFrame) -> dict[str, Measures]:
    """Method -> measures of an ood table."""
    averages = table.groupby(["method", "protocol"], sort=False)[list(METRICS)].mean()
    by_method: dict[str, Measures] = {}
    for method in table["method"].unique():
        means = {kind: averages.loc[(method, kind)] for kind in PROTOCOLS}
        nine = [value for mean in means.values() for value in (mean["auc"], mean["aupr"], 1 - mean["fpr95"])]
        measures = {f"{kind}_{metric}": mean[metric] for kind, mean in means.items() for metric in METRICS}
        by_method[method] = measures | {"headline": np.mean(nine)}
    return by_method


def _share_above(attacked: np.ndarray | pd.Series, bound: np.ndarray | pd.Series) -> float:
    return float(np.mean(attacked > bound + ROUNDING))


def _l2(values: _Values, method_spec: MethodSpec, config: Config, flags: AbstractSet[str]) -> Measures:
    certify, sigma, n = config.evaluation.certify_l2, config.evaluation.sigma, settings_of(config).n
    own = {
        name: own_radii(values["agreeing", name], n, sigma, certify.alpha, flags) for name in ("id", *config.data.ood)
    }
    highest, measures = -np.inf, {}
    for radius in certify.radii:
        id_scores, aucs, shares = _scores_at(values, "id", own, radius, flags), [], []
        for name in config.data.ood:
            ood_scores = _scores_at(values, name, own, radius, flags)
            shares.append(len(ood_scores) / len(own[name]))
            both = np.concatenate([id_scores, ood_scores])
            highest = max([highest, *both[np.isfinite(both)]])
            left_out = "D5" in flags and not both.any()  # as their code leaves out a set of zeros
            if len(id_scores) and len(ood_scores) and not left_out:
                aucs.append(ood_metrics(id_scores, ood_scores)["auc"])
        measures[f"l2_auc_{radius:g}"] = float(np.mean(aucs)) if aucs else np.nan
        measures[f"l2_population_{radius:g}"] = float(np.mean(shares))
    return measures if method_spec.is_unbounded else measures | {"l2_highest": highest}


def _scores_at(
    values: _Values, name: str, own: Mapping[str, np.ndarray], radius: float, flags: AbstractSet[str]
) -> np.ndarray:
    """The scores of a set that enter the l2 AUC at a radius. own: the certified radius of every image, by set."""
    one_pass, bound = (values[quantity, name] for quantity in ("one_pass", "l2_bound"))
    return l2_scores(one_pass, bound, own[name], radius, name == "id", flags)


def _labels(values: _Values, method_spec: MethodSpec, config: Config, flags: AbstractSet[str]) -> Measures:
    n, sigma, certify = settings_of(config).n, config.evaluation.sigma, config.evaluation.certify_id
    measures = {"id_accuracy": values["correct", "id"].mean()}
    if method_spec.is_randomised:  # no flag departs from the others' AutoAttack
        measures["id_adversarial"] = values["robust", "id"].mean()
    own = own_radii(values["agreeing", "id"], n, sigma, certify.alpha, flags, of_labels=True)
    certified = (values["voted_right", "id"] > 0) & (own > 0)
    return measures | {f"id_certified_{radius:g}": (certified & (own >= radius)).mean() for radius in certify.radii}
