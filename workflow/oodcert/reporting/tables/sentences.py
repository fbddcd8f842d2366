"""Sentences that captions share: on images and sets, on noise draws, on attacks and what they found."""

import math

from oodcert.config.external_weights import imported
from oodcert.errors import InputError
from oodcert.evidence.selection import of_method, of_set
from oodcert.reporting.display_names import MARK, label
from oodcert.reporting.tables.notes import unexpected
from oodcert.reporting.tables.sanity import sanity_table

# An attack with less than this is called reduced: AutoAttack's own settings, and the APGD and monotone PGD of ProoD
# and DISTRO on OOD images, with AutoAttack's numbers of Square queries and, for the randomised methods, of noise draws,
# which those papers leave open. The l2 attack, which no paper fixes, is held against AutoAttack's iterations and draws.
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


def about_the_protocols(evidence, config):
    """The sentences on the clean, guaranteed and adversarial protocols and on their images."""
    epsilon = config["evaluation"]["epsilon"]
    return [
        numbers_of_images(evidence, "clean", config),
        "The in-distribution scores are clean throughout.",
        about_the_draws(evidence, config),
        f"Guaranteed: deterministic upper bounds (no n, no α) by interval propagation over the ℓ∞ ball of radius "
        f"ε = {epsilon:g}.",
        _vacuous(evidence, config),
        f"Adversarial: the highest score that the attack found in that ball "
        f"({attack_settings(evidence, 'attack_linf', config, OOD_ATTACK)}).",
        *_standard_errors(evidence, config),
        _strongest(evidence, config),
        *_unreliable(evidence, config),
        *unexpected(evidence, config),
    ]


def about_the_sets(config):
    """Which OOD sets could not be had, and why; what was done to the images; and which parts were not trained here."""
    data, imports, sentences = config["data"], imported(config), []
    if data["unavailable"]:
        texts = [f"{label(name)} ({why})" for name, why in data["unavailable"].items()]
        sentences.append(f"Unavailable, and in no average: {'; '.join(texts)}.")
    if data["jpeg_quality"] is not None:
        sentences.append(f"All images went through JPEG of quality {data['jpeg_quality']}.")
    for kind, text in (("published", "Published weights, not trained here"), ("own", "Imported, not trained here")):
        names = [label(name) for name, one in imports.items() if one.network["name"] == kind]
        if names:
            sentences.append(f"{text}: {listed(names)}.")
    return sentences


def points(difference):
    """A difference of fractions in percentage points, with its sign."""
    return f"{round(100 * difference, 2) + 0.0:+.2f}".replace("-", "−")


def _vacuous(evidence, config):
    """How many bounds say nothing: those at or above every clean ID score, be they vacuous or finite."""
    shares = {}
    for method in config["methods"]:
        bounds = of_method(evidence, "guarantee_linf", method)
        highest = of_set(of_method(evidence, "clean", method), "clean", "id")["score"].max()
        share = (bounds["vacuous"] | (bounds["upper"] >= highest)).mean()
        if share > 0:
            shares.setdefault(percent(share), []).append(label(method))
    if not shares:
        return "Every bound is below some ID score."
    texts = [f"on {share} of the OOD images for {listed(methods)}" for share, methods in shares.items()]
    return f"The bound says nothing (it is above every ID score, or vacuous, the worst value) {'; '.join(texts)}."


def about_the_draws(evidence, config):
    """How the randomised methods, those with more than one draw, were scored."""
    draws = {m: of_method(evidence, "clean", m)["draws"] for m in config["methods"]}
    texts = [f"{label(method)} over {span(d)} noise draws" for method, d in draws.items() if d.max() > 1]
    if not texts:
        return "No method is randomised."
    return f"Randomised methods are scored at σ = {config['evaluation']['sigma']:g}: {', '.join(texts)}."


def attack_settings(evidence, evaluation, config, full):
    """The attack's settings as found in the evidence, methods with the same ones together."""
    settings = {}
    for method in config["methods"]:
        settings.setdefault(_attack(evidence, evaluation, method, full), []).append(label(method))
    return "; ".join(f"{listed(methods)}: {text}" for text, methods in settings.items())


def _standard_errors(evidence, config):
    """The largest Monte-Carlo error, rounded up, of each randomised method's attacked scores."""
    largest = {m: of_method(evidence, "attack_linf", m)["standard_error"].max() for m in config["methods"]}
    return [
        f"{label(method)}'s attacked scores have a Monte-Carlo standard error of at most "
        f"{math.ceil(1e3 * error) / 1e3:g}."
        for method, error in largest.items()
        if error > 0
    ]


def _strongest(evidence, config):
    shares = of_methods(evidence, "attack_linf", config)["attack"].value_counts(normalize=True)
    texts = [f"{label(attack)} on {percent(share)}" for attack, share in shares.items()]
    return f"The highest score came from {listed(texts)} of the images (clean: no attack raised it)."


def _unreliable(evidence, config):
    """Which methods' attacks fail a sanity check; the tables mark them."""
    table = sanity_table(evidence, config)
    failed = table.loc[~table["reliable"], "method"]
    if failed.empty:
        return ["Every method's attack passes the sanity checks (table sanity)."]
    return [
        f"{MARK}: the attack fails a sanity check (table sanity), so the adversarial values of "
        f"{listed([label(method) for method in failed])} may be too favourable."
    ]


def _attack(evidence, evaluation, method, full):
    rows = of_method(evidence, evaluation, method)
    randomised = of_method(evidence, "clean", method)["draws"].max() > 1
    version = listed(rows["version"].unique()) if "version" in rows else None
    skipped = {"queries"} if version == "rand" else set() if randomised else {"draws", "eot"}
    budget = attack_budget(rows, {name: value for name, value in full.items() if name not in skipped})
    return f"{version}, {budget}" if version else budget


def attack_budget(rows, full):
    """The attack's settings in these rows, with those that are below the full ones marked as reduced."""
    return ", ".join(
        _count(rows[name], UNITS[name]) + (f" [reduced from {value}]" if rows[name].min() < value else "")
        for name, value in full.items()
    )


def numbers_of_images(evidence, evaluation, config):
    """The number of images a set and the ID:OOD ratio, which AUPR depends on."""
    counts = images_per_set(evidence, evaluation, config, ["id", *config["data"]["ood"]])
    id_count, ood = counts["id"], {name: counts[name] for name in config["data"]["ood"]}
    if len(set(ood.values())) == 1:
        count = next(iter(ood.values()))
        return f"Images: {id_count} ID and {count} of each OOD set, ID:OOD = 1:{count / id_count:.3g}."
    texts = [f"{label(name)} {count} (1:{count / id_count:.3g})" for name, count in ood.items()]
    return f"Images (ID:OOD): {id_count} ID; {', '.join(texts)}."


def images_per_set(evidence, evaluation, config, names):
    """Number of images of every named set, equal over the methods."""
    counts = {}
    for method in config["methods"]:
        rows = of_method(evidence, evaluation, method)
        for name in names:
            counts.setdefault(name, {})[method] = of_set(rows, evaluation, name)["sample"].nunique()
    for name, by_method in counts.items():
        if len(set(by_method.values())) > 1:
            raise InputError(
                f"The methods were evaluated on different numbers of {name} images in {evaluation}: {by_method}. "
                "They can't be compared in one table: run the evaluation again for the methods that differ."
            )
    return {name: next(iter(by_method.values())) for name, by_method in counts.items()}


def of_methods(evidence, evaluation, config):
    """An evaluation's rows of the methods of the config."""
    return evidence[evaluation][lambda rows: rows["method"].isin(config["methods"])]


def span(values):
    """Values of a column as text: the one value, or lowest to highest."""
    low, high = values.min(), values.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _count(values, unit):
    amount = span(values)
    plural = f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s"
    return f"{amount} {unit if amount == '1' else plural}"


def percent(share):
    """A share as text, with three digits."""
    return f"{100 * share:.3g} %"


def listed(items):
    """Texts or numbers as an enumeration."""
    texts = [item if isinstance(item, str) else f"{item:g}" for item in items]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
