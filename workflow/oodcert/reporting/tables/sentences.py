"""Sentences that captions share: on images and sets, on noise draws, on attacks and what they reached."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from oodcert.config.external_weights import imported
from oodcert.config.models import Config
from oodcert.errors import InputError
from oodcert.evidence.selection import rows_of_method, rows_of_set
from oodcert.evidence.store import Evidence
from oodcert.reporting.display_names import MARK, label
from oodcert.reporting.tables.notes import unexpected
from oodcert.reporting.tables.sanity import sanity_table

# An attack with less than this is called reduced. For AutoAttack these are its own settings. For the attack on OOD
# images they are the APGD and monotone PGD of ProoD and DISTRO; those papers leave open the Square queries and the
# noise draws of randomised methods, which are AutoAttack's. No paper fixes the l2 attack: it is compared with
# AutoAttack's iterations and draws.
AUTOATTACK = {"iterations": 100, "queries": 5000, "eot": 20}
OOD_ATTACK = {
    "apgd_iterations": 500,
    "apgd_restarts": 5,
    "pgd_iterations": 200,
    "pgd_restarts": 3,
    "queries": 5000,
    "draws": 20,
}
L2_ATTACK = {"iterations": 100, "restarts": 1, "draws": 20}
UNITS = {
    "iterations": "iteration",
    "restarts": "restart",
    "apgd_iterations": "APGD iteration",
    "apgd_restarts": "APGD restart",
    "pgd_iterations": "monotone PGD iteration",
    "pgd_restarts": "PGD restart",
    "queries": "Square query",
    "draws": "noise draw",
    "eot": "EOT draw",
}


def about_the_protocols(evidence: Evidence, config: Config) -> list[str]:
    """The sentences on the clean, guaranteed and adversarial protocols and on their images."""
    epsilon = config.evaluation.epsilon
    return [
        numbers_of_images(evidence, "clean", config),
        "The in-distribution scores are clean throughout.",
        about_the_draws(evidence, config),
        f"Guaranteed: deterministic upper bounds (no n, no α) by interval propagation over the ℓ∞ ball of radius "
        f"ε = {epsilon:g}.",
        _vacuous(evidence, config),
        f"Adversarial: the highest score that the attack reached in that ball "
        f"({attack_settings(evidence, 'attack_linf', config, OOD_ATTACK)}).",
        *_standard_errors(evidence, config),
        _strongest(evidence, config),
        *_unreliable(evidence, config),
        *unexpected(evidence, config),
    ]


def about_the_sets(config: Config) -> list[str]:
    """Which OOD sets are unavailable and why, what was done to the images, and which components were not trained."""
    data, imports, sentences = config.data, imported(config), []
    if data.unavailable:
        texts = [f"{label(name)} ({why})" for name, why in data.unavailable.items()]
        sentences.append(f"Unavailable, and in no average: {'; '.join(texts)}.")
    if data.jpeg_quality is not None:
        sentences.append(f"All images went through JPEG of quality {data.jpeg_quality}.")
    for kind, text in (("released", "Released weights, not trained here"), ("own", "Imported, not trained here")):
        names = [label(name) for name, source in imports.items() if source.network["name"] == kind]
        if names:
            sentences.append(f"{text}: {listed(names)}.")
    return sentences


def points(difference: float) -> str:
    """A difference of fractions in percentage points, with its sign."""
    return f"{round(100 * difference, 2) + 0.0:+.2f}".replace("-", "−")


def about_the_draws(evidence: Evidence, config: Config) -> str:
    """How the randomised methods, those with more than one draw, were scored."""
    draws = {method: rows_of_method(evidence, "clean", method)["draws"] for method in config.methods}
    texts = [f"{label(method)} over {span(d)} noise draws" for method, d in draws.items() if d.max() > 1]
    if not texts:
        return "No method is randomised."
    return f"Randomised methods are scored at σ = {config.evaluation.sigma:g}: {', '.join(texts)}."


def attack_settings(evidence: Evidence, evaluation: str, config: Config, full: Mapping[str, int]) -> str:
    """The attack's settings as the evidence has them, methods with the same ones together.

    Args:
        evidence: the run's.
        evaluation: that of the attack.
        config: the run's.
        full: the settings below which the attack is called reduced.

    Returns:
        The text.
    """
    settings: dict[str, list[str]] = {}
    for method in config.methods:
        settings.setdefault(_attack(evidence, evaluation, method, full), []).append(label(method))
    return "; ".join(f"{listed(methods)}: {text}" for text, methods in settings.items())


def attack_budget(rows: pd.DataFrame, full: Mapping[str, int]) -> str:
    """The attack's settings in these rows, with those that are below the full ones marked as reduced."""
    return ", ".join(
        _count(rows[name], UNITS[name]) + (f" [reduced from {value}]" if rows[name].min() < value else "")
        for name, value in full.items()
    )


def numbers_of_images(evidence: Evidence, evaluation: str, config: Config) -> str:
    """The number of images of each set, and the ID:OOD ratio, on which AUPR depends."""
    counts = images_per_set(evidence, evaluation, config, ["id", *config.data.ood])
    id_count, ood = counts["id"], {name: counts[name] for name in config.data.ood}
    if len(set(ood.values())) == 1:
        count = next(iter(ood.values()))
        return f"Images: {id_count} ID and {count} of each OOD set, ID:OOD = 1:{count / id_count:.3g}."
    texts = [f"{label(name)} {count} (1:{count / id_count:.3g})" for name, count in ood.items()]
    return f"Images (ID:OOD): {id_count} ID; {', '.join(texts)}."


def images_per_set(evidence: Evidence, evaluation: str, config: Config, names: Iterable[str]) -> dict[str, int]:
    """Name of a set -> its number of images in an evaluation.

    Args:
        evidence: the run's.
        evaluation: its name.
        config: the run's.
        names: of the sets.

    Returns:
        The numbers.

    Raises:
        InputError: if the numbers differ between methods.
    """
    counts: dict[str, dict[str, int]] = {}
    for method in config.methods:
        rows = rows_of_method(evidence, evaluation, method)
        for name in names:
            counts.setdefault(name, {})[method] = rows_of_set(rows, evaluation, name)["sample"].nunique()
    for name, by_method in counts.items():
        if len(set(by_method.values())) > 1:
            raise InputError(
                f"The methods were evaluated on different numbers of {name} images in {evaluation}: {by_method}. "
                "They can't be compared in one table: run the evaluation again for the methods that differ."
            )
    return {name: next(iter(by_method.values())) for name, by_method in counts.items()}


def rows_of_methods(evidence: Evidence, evaluation: str, config: Config) -> pd.DataFrame:
    """An evaluation's rows of the methods of the config."""
    rows = evidence[evaluation]
    return rows[rows["method"].isin(config.methods)]


def span(values: pd.Series) -> str:
    """Values of a column as text: the one value, or lowest to highest."""
    low, high = values.min(), values.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def percent(share: float) -> str:
    """A share as text, with three digits."""
    return f"{100 * share:.3g} %"


def listed(items: Sequence[str | float]) -> str:
    """Texts or numbers as an enumeration."""
    texts = [item if isinstance(item, str) else f"{item:g}" for item in items]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _vacuous(evidence: Evidence, config: Config) -> str:
    """How many bounds say nothing: those at or above every clean ID score, vacuous or finite."""
    shares: dict[str, list[str]] = {}
    for method in config.methods:
        bounds = rows_of_method(evidence, "guarantee_linf", method)
        highest = rows_of_set(rows_of_method(evidence, "clean", method), "clean", "id")["score"].max()
        share = (bounds["vacuous"] | (bounds["upper"] >= highest)).mean()
        if share > 0:
            shares.setdefault(percent(share), []).append(label(method))
    if not shares:
        return "Every bound is below some ID score."
    texts = [f"on {share} of the OOD images for {listed(methods)}" for share, methods in shares.items()]
    return (
        "A bound says nothing if it is above every ID score, or vacuous, which counts as the worst value. "
        f"That is so {'; '.join(texts)}."
    )


def _standard_errors(evidence: Evidence, config: Config) -> list[str]:
    """The largest Monte-Carlo error, rounded up, of each randomised method's attacked scores."""
    largest = {m: rows_of_method(evidence, "attack_linf", m)["standard_error"].max() for m in config.methods}
    return [
        f"{label(method)}'s attacked scores have a Monte-Carlo standard error of at most "
        f"{math.ceil(1e3 * error) / 1e3:g}."
        for method, error in largest.items()
        if error > 0
    ]


def _strongest(evidence: Evidence, config: Config) -> str:
    shares = rows_of_methods(evidence, "attack_linf", config)["attack"].value_counts(normalize=True)
    texts = [f"{label(attack)} on {percent(share)}" for attack, share in shares.items()]
    return f"The highest score came from {listed(texts)} of the images (clean: no attack raised it)."


def _unreliable(evidence: Evidence, config: Config) -> list[str]:
    """Which methods' attacks fail a sanity check; the tables mark them."""
    table = sanity_table(evidence, config)
    failed = table.loc[~table["reliable"], "method"]
    if failed.empty:
        return ["Every method's attack passes the sanity checks (table sanity)."]
    return [
        f"{MARK}: the attack fails a sanity check (table sanity), so the adversarial values of "
        f"{listed([label(method) for method in failed])} may be too favourable."
    ]


def _attack(evidence: Evidence, evaluation: str, method: str, full: Mapping[str, int]) -> str:
    """The settings of the attack on one method."""
    rows = rows_of_method(evidence, evaluation, method)
    randomised = rows_of_method(evidence, "clean", method)["draws"].max() > 1
    version = listed(rows["version"].unique()) if "version" in rows else None
    skipped = {"queries"} if version == "rand" else set() if randomised else {"draws", "eot"}
    budget = attack_budget(rows, {name: value for name, value in full.items() if name not in skipped})
    return f"{version}, {budget}" if version else budget


def _count(values: pd.Series, unit: str) -> str:
    amount = span(values)
    plural = f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s"
    return f"{amount} {unit if amount == '1' else plural}"
