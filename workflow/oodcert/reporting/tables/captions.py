"""One caption per table, with every number in it read from the evidence or the configuration.

These are the captions of the .md and .tex files. The report of `snakemake --report` shows those of the .md files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from oodcert.authors_code.flags import FLAGS, case_of
from oodcert.config.models import CertifyIdSettings, CertifyL2Settings, Config
from oodcert.evidence.store import Evidence
from oodcert.reporting.display_names import MARK, label
from oodcert.reporting.tables.authors_code import settings_of
from oodcert.reporting.tables.protocol import by_authors_code, protocol_headline_table
from oodcert.reporting.tables.sanity import SLACK, WINS, sanity_table
from oodcert.reporting.tables.sentences import (
    AUTOATTACK,
    L2_ATTACK,
    about_the_draws,
    about_the_protocols,
    about_the_sets,
    attack_budget,
    attack_settings,
    images_per_set,
    listed,
    numbers_of_images,
    percent,
    points,
    rows_of_methods,
    span,
)
from oodcert.reporting.tables.values import l2_metric
from oodcert.statistics.bootstrap import RESAMPLES
from oodcert.statistics.failing_bounds import CONFIDENCE, most_failing, table_error
from oodcert.statistics.metrics import METRICS

SHOWN = 40  # rows of reported values in a table for people


def caption(kind: str, evidence: Evidence, config: Config) -> str:
    """The caption of one of oodcert.reporting.tables.TABLES as plain text, in one paragraph.

    Args:
        kind: the table's name.
        evidence: evaluation -> its rows.
        config: the run's.

    Returns:
        The text.

    Raises:
        InputError: if evidence is missing, or methods were evaluated on different numbers of images.
    """
    return " ".join([*CAPTIONS[kind](evidence, config), f"Seed {config.seed}."])


def _id(evidence: Evidence, config: Config) -> list[str]:
    settings = config.evaluation
    certified = _values(evidence, "certify_id", config, ("n0", "n", "alpha"))
    counts = ", ".join(
        f"{images_per_set(evidence, evaluation, config, ['id'])['id']} {what}"
        for evaluation, what in (("clean", "clean"), ("attack_id", "attacked"), ("certify_id", "certified"))
    )
    return [
        "Accuracy on in-distribution test images, in %.",
        "Clean: unperturbed images.",
        about_the_draws(evidence, config),
        f"Adversarial: under AutoAttack in the ℓ∞ ball of radius ε = {listed(settings.attack_id.epsilons)} "
        f"({attack_settings(evidence, 'attack_id', config, AUTOATTACK)}).",
        "An image is robust only if the method's own prediction is right on the clean and on every attacked image. A "
        "randomised method predicts by the mean over its evaluation's noise draws, which the attack never saw.",
        "Certified: correct, not abstained, and with a certified ℓ₂ radius of at least R under Gaussian noise of "
        "standard deviation σ.",
        f"n₀ = {certified['n0']}, n = {certified['n']}"
        f"{_sampling(settings.certify_id, 'which R an image reaches')}, α = {certified['alpha']}: "
        "each image's radius holds with probability ≥ 1 − α.",
        *_precision(settings.certify_id, "These radii are"),
        f"Images: {counts}.",
        *_more_images(evidence, config),
        *about_the_sets(config),
    ]


def _more_images(evidence: Evidence, config: Config) -> list[str]:
    """How many ID images the clean accuracy is of, if they are more than all else is computed on."""
    clean = rows_of_methods(evidence, "clean", config)
    more = clean[clean["set"] == "id_more"].groupby("method")["sample"].nunique()
    if more.empty:
        return []
    total = more + images_per_set(evidence, "clean", config, ["id"])["id"]
    names = listed([label(method) for method in config.methods if method in more])
    return [f"The clean accuracy of {names} is of {span(total)} images."]


def _autoattack(evidence: Evidence, config: Config) -> list[str]:
    return [
        "Accuracy on in-distribution test images, in %, under AutoAttack in the ℓ∞ ball of radius "
        f"ε = {listed(config.evaluation.attack_id.epsilons)} "
        f"({attack_settings(evidence, 'attack_id', config, AUTOATTACK)}).",
        "A column is of one of its attacks alone, the last one of the worst of them for each image.",
        "A dash: the version of AutoAttack that the method is attacked with lacks this attack.",
        about_the_draws(evidence, config),
        f"Images: {images_per_set(evidence, 'attack_id', config, ['id'])['id']}.",
        *about_the_sets(config),
    ]


def _sanity(evidence: Evidence, config: Config) -> list[str]:
    evaluation, linear = config.evaluation, evidence["attack_linear"]
    gains = (linear["attacked"] - linear["clean"]) / (linear["maximum"] - linear["clean"])
    images = sanity_table(evidence, config)["images"]
    return [
        f"AUC, in %, of the clean ID scores against {span(images)} OOD images ({evaluation.sanity.images} of "
        "each set) under the attack on OOD confidence. Table ood has that attack's results on all images.",
        "By radius: with the full budget.",
        f"At ε = {evaluation.epsilon:g} also with a quarter of its iterations and queries, by the white-box attacks "
        "alone, and by Square alone, which sees no gradient.",
        "Square wins: the share of images, in %, on which Square reaches a higher score than the white-box attacks.",
        "An attack is reliable if it passes four checks. The mean attacked score rises with every step of ε (radius). "
        "The AUC is at chance or below where a perturbation can reach any image (chance). Square wins on at most "
        f"{100 * WINS:g} % of the images (Square). A quarter of the budget does no better (budget).",
        f"Differences below {SLACK:g} of the gap between the mean clean scores of ID and OOD images do not count.",
        "A method whose attack fails a check may hide its gradients, or the budget may be too small. Its adversarial "
        "values are then too favourable.",
        f"On a linear score the same attack gains at least {100 * gains.min():.2f} % of what is possible, "
        f"on {len(linear)} images.",
        *about_the_sets(config),
    ]


def _ood(evidence: Evidence, config: Config) -> list[str]:
    return [
        f"AUC, AUPR and FPR at 95 % TPR, in %, on {len(config.data.ood)} OOD sets and their average. In-distribution "
        "is the positive class.",
        *about_the_sets(config),
        *_protocols(evidence, config),
    ]


def _headline(evidence: Evidence, config: Config) -> list[str]:
    return [
        "The mean of AUC, AUPR and 1 − FPR95 over the clean, guaranteed and adversarial protocols, in %. Each is "
        f"averaged over {len(config.data.ood)} OOD sets.",
        "Lead: a method's mean minus the best mean among the others, in points.",
        *_distro_lead(evidence, config),
        *about_the_sets(config),
        *_protocols(evidence, config),
    ]


def _protocols(evidence: Evidence, config: Config) -> list[str]:
    return _authors_code(config) if by_authors_code(config) else about_the_protocols(evidence, config)


def _authors_code(config: Config) -> list[str]:
    """What numbers of the authors' code are, and are not."""
    return [
        "AUTHORS' CODE: what the public code of the paper's authors computes, with all its departures from the "
        "mathematics (docs/defects.md and table ablation). These numbers are not sound: a guaranteed one guarantees "
        "nothing. `protocol: sound` in the config gives sound numbers.",
        f"Images: {settings_of(config).images} of every set. For AUPR each ID image counts ten times: ID:OOD = 10:1.",
        f"Guaranteed and adversarial: in the ℓ∞ ball of radius ε = {config.evaluation.epsilon:g}.",
        f"{MARK}, on every method: no check of its attack was made.",
    ]


def _distro_lead(evidence: Evidence, config: Config) -> list[str]:
    table = protocol_headline_table(evidence, config).set_index("method")
    if "distro" not in table.index:
        return []
    earlier = [method for method in table.index if not config.methods[method].is_randomised]
    if not earlier:
        return []
    best = table.loc[earlier, "mean"].idxmax()
    lead = points(table.loc["distro", "mean"] - table.loc[best, "mean"])
    return [f"DISTRO minus the best method without a denoiser ({label(best)}): {lead} points."]


def _ablation(evidence: Evidence, config: Config) -> list[str]:
    settings = settings_of(config)
    return [
        "What the public code of the paper's authors computes on the networks of this run. A flag is one of its "
        "departures from the mathematics (docs/defects.md).",
        "Authors' code: the value with all flags as that code has them, in %. Sound: with the one flag corrected, in "
        "%. Effect: sound minus authors' code, in points.",
        "A flag is shown by the measure that it moves most on DISTRO. If it does not act on DISTRO, it is shown on the "
        "method that it moves most. The csv file has all measures of all methods, and why a flag does not act. The "
        "last rows are the headline mean of every method with all flags corrected.",
        "Guaranteed, adversarial, clean: averages over the OOD sets. Sound AUC in ℓ₂ balls: by bounds that hold with "
        "probability ≥ 1 − α per image, without the confidence of table l2, for that code has none. Above the bound: "
        "OOD images whose attacked score is above their guaranteed bound. Population: OOD images that enter the AUC at "
        "R. Highest: the largest value that counts as a confidence. A single image: whether its bound can be computed. "
        "A dash: no value, for nothing "
        f"is certified{'' if l2_metric(config) == 'auc' else ', or its evidence was sampled adaptively'}.",
        f"Images: {settings.images} of every set. Votes: n₀ = {settings.n0} and n = {settings.n} draws at "
        f"σ = {config.evaluation.sigma:g}. With all flags corrected, the values are of the same images in the evidence "
        "of the other tables, with its draws and attacks.",
        *_without_effect(config),
        *about_the_sets(config),
    ]


def _without_effect(config: Config) -> list[str]:
    """The flags that act on no method, and why."""
    cases = [case_of(method, config) for method in config.methods]
    reasons = {flag: dict.fromkeys(known.idle(case) for case in cases) for flag, known in FLAGS.items()}
    texts = [
        f"{flag} ({'; '.join(reason for reason in why if reason)})" for flag, why in reasons.items() if None not in why
    ]
    return [f"No effect here: {', '.join(texts)}."] if texts else []


def _claims(evidence: Evidence, config: Config) -> list[str]:
    return [
        "Claims that papers make of DISTRO and of methods that it builds on, compared with this run on "
        f"{label(config.data.id)}. Values in %, differences in points.",
        "Expected: the border that paper/claims.yaml declares, with its tolerance.",
        "Measured: the least favourable of the comparisons that a claim makes, which Why names. Beside it: its 95 % "
        f"interval by a paired bootstrap over images ({RESAMPLES} resamples). The interval does not cover other "
        "trainings, stronger attacks or other noise draws.",
        "Reproduced: all of the interval is as expected. Not reproduced: none of it is. Not testable here: part of it "
        "is, or the run lacks what the claim needs.",
        "The adversarial value of a method whose attack fails a sanity check may be anything lower.",
        f"Guarantees in ℓ₂ balls are those of table l2, with a confidence of {100 * CONFIDENCE:g} % over noise draws.",
        numbers_of_images(evidence, "clean", config),
        *about_the_sets(config),
    ]


def _reported(evidence: Evidence, config: Config) -> list[str]:
    return [
        "Values that papers report beside those of this run, in %. Differences in points.",
        "Setting: what differs as far as paper/reported.csv knows it, and what this run's values rest on (here). What "
        "that file lacks, such as networks, training and attacks, is in the papers, and nearly always differs.",
        f"At most {SHOWN} rows of the csv file are shown: those with the fewest known differences, papers and methods "
        "in turn.",
        numbers_of_images(evidence, "clean", config),
        *about_the_sets(config),
    ]


def _l2(evidence: Evidence, config: Config) -> list[str]:
    certify, settings = config.evaluation.certify_l2, _values(evidence, "certify_l2", config, ("n", "alpha"))
    return [
        *_l2_metrics(config),
        "Bounds hold under any such perturbation: ID lower bounds at R = 0 are compared with OOD upper bounds at R.",
        "Scores are smoothed with Gaussian noise of standard deviation σ. The percentile bound is on their median, the "
        "others on their mean: cdf from a Berk–Jones band around the scores' distribution, gaussian and lipschitz from "
        "a betting bound on their mean.",
        f"n = {settings['n']} draws"
        f"{_sampling(certify, 'on which side of the FPR95 threshold an OOD bound lies')}, α = {settings['alpha']}: "
        "each bound holds per image, per radius and per side with probability ≥ 1 − α.",
        *_confidence(evidence, config),
        *_without_range(config),
        *_vacuous_l2(evidence, config),
        *_one_pass(config),
        *_l2_attack(evidence, config),
        *_precision(certify, "Bounds, and what the attack is judged on, are"),
        *about_the_sets(config),
        numbers_of_images(evidence, "certify_l2", config),
    ]


def _confidence(evidence: Evidence, config: Config) -> list[str]:
    """What the guaranteed metrics hold with, and how many images of each set that costs."""
    alpha = rows_of_methods(evidence, "certify_l2", config)["alpha"].max()
    counts = images_per_set(evidence, "certify_l2", config, ["id", *config.data.ood])
    error = table_error(CONFIDENCE, len(config.data.ood))
    failing = pd.Series([most_failing(count, alpha, error) for count in counts.values()])
    return [
        f"The guaranteed metrics of a method at one σ, bound and R hold with a confidence of {100 * CONFIDENCE:g} %, "
        "those of all sets and their average at once. For that, the worst choice of bounds takes its worst value, "
        f"{span(failing)} of each set: hardly ever do more of them fail."
    ]


def _l2_metrics(config: Config) -> list[str]:
    """What the l2 table shows, and with adaptive sampling what may be far worse than with all draws."""
    shown = l2_metric(config)
    others = listed([metric.upper() for metric in METRICS if metric != shown])
    sentences = [
        f"{shown.upper()}, in %, averaged over {len(config.data.ood)} OOD sets, when the OOD images are "
        f"perturbed within an ℓ₂ norm of R. {others}, and every set by itself, are in the csv file."
    ]
    if shown != "auc":
        sentences.append(
            "Adaptive sampling decides at the FPR95 threshold alone. FPR95 may be some points higher than with all "
            f"draws, {others} far worse."
        )
    return sentences


def _without_range(config: Config) -> list[str]:
    """Which methods' scores admit no bound but the percentile one."""
    bounds = [*config.evaluation.certify_l2.bounds]
    methods = [label(name) for name, spec in config.methods.items() if spec.admitted_bounds(bounds) != bounds]
    if not methods:
        return []
    return [f"The scores of {listed(methods)} have no range. Of these bounds they admit the percentile bound alone."]


def _vacuous_l2(evidence: Evidence, config: Config) -> list[str]:
    """How many l2 bounds say nothing."""
    rows = rows_of_methods(evidence, "certify_l2", config)
    ood = rows[rows["set"].isin(config.data.ood)]
    vacuous = np.isposinf(ood["upper"]) | ((ood["bound"] != "percentile") & (ood["upper"] >= 1 - 1e-6))
    shares = vacuous.groupby(ood["bound"], sort=False).mean()
    return [
        "OOD bounds that say nothing (infinite, or 1 for a mean score): "
        + ", ".join(f"{label(bound)} {percent(share)}" for bound, share in shares.items())
        + ". An infinite bound counts as the worst value."
    ]


def _one_pass(config: Config) -> list[str]:
    """What the rows of the one-pass detector are."""
    settings = config.evaluation.one_pass
    if settings is None:
        return []
    return [
        f"One pass, at σ = {listed(settings.sigmas)}: another detector. Its score of a query is a single noisy score. "
        f"Its metrics are certified by {settings.draws} noise draws an image, with a confidence of "
        f"{100 * settings.confidence:g} % for all sets and their average at once, and at any R. One pass attack: its "
        "scores of the attacked images, one fresh draw each; FPR95 at the certified threshold."
    ]


def _l2_attack(evidence: Evidence, config: Config) -> list[str]:
    attack = rows_of_methods(evidence, "attack_l2", config)
    return [
        f"Attack: no bound, but what an attack achieved on the median at σ = {listed(attack['sigma'].unique())}. Up to "
        f"Monte-Carlo error it is the {'lower' if l2_metric(config) == 'fpr95' else 'upper'} end of the percentile "
        f"bound's bracket. It raises the score under noise ({attack_budget(attack, L2_ATTACK)}), and is "
        f"judged on n = {span(attack['n'])} fresh draws. Each image takes its strongest result over all radii up to R."
    ]


def _values(evidence: Evidence, evaluation: str, config: Config, columns: Sequence[str]) -> dict[str, str]:
    """The settings in an evaluation's rows over all methods, as text: one value, or lowest to highest."""
    rows = rows_of_methods(evidence, evaluation, config)
    return {column: span(rows[column]) for column in columns}


def _precision(settings: CertifyL2Settings | CertifyIdSettings, what: str) -> list[str]:
    return [f"{what} of the networks in bfloat16."] if settings.precision == "bfloat16" else []


def _sampling(settings: CertifyL2Settings | CertifyIdSettings, question: str) -> str:
    return f" (adaptive: until it is decided {question})" if settings.sampling == "adaptive" else ""


CAPTIONS: dict[str, Callable[[Evidence, Config], list[str]]] = {
    "id": _id,
    "autoattack": _autoattack,
    "ood": _ood,
    "l2": _l2,
    "sanity": _sanity,
    "headline": _headline,
    "claims": _claims,
    "reported": _reported,
    "ablation": _ablation,
}
