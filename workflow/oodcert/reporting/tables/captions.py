"""One caption a table, with every number in it read from the evidence or the configuration."""

import numpy as np

from oodcert.authors_code.flags import FLAGS, case_of
from oodcert.config.method_specs import bounds_of, is_randomised
from oodcert.reporting.display_names import MARK, label
from oodcert.reporting.tables.protocol import is_published, reported_headline_table
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
    of_methods,
    percent,
    points,
    span,
)
from oodcert.reporting.tables.values import l2_metric
from oodcert.statistics.bootstrap import RESAMPLES
from oodcert.statistics.metrics import METRICS

SHOWN = 40  # rows of published numbers in a table for people


def caption(kind, evidence, config):
    """The caption of one table of oodcert.reporting.tables.TABLES as plain text, in one paragraph.

    Raises InputError where evidence is missing, or where methods were evaluated on different numbers of images.
    """
    captions = {
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
    sentences = captions[kind](evidence, config)
    return " ".join([*sentences, f"Seed {config['seed']}."])


def _id(evidence, config):
    settings = config["evaluation"]
    certified = _values(evidence, "certify_id", config, ("n0", "n", "alpha"))
    counts = ", ".join(
        f"{images_per_set(evidence, evaluation, config, ['id'])['id']} {what}"
        for evaluation, what in (("clean", "clean"), ("attack_id", "attacked"), ("certify_id", "certified"))
    )
    return [
        "Accuracy on in-distribution test images, in %.",
        "Clean: unperturbed images.",
        about_the_draws(evidence, config),
        f"Adversarial: under AutoAttack in the ℓ∞ ball of radius ε = {listed(settings['attack_id']['epsilons'])} "
        f"({attack_settings(evidence, 'attack_id', config, AUTOATTACK)}).",
        "An image is robust only if the method's own prediction, for a randomised method by the mean over its "
        "evaluation's noise draws, which the attack never saw, is right on the clean and on every attacked image.",
        "Certified: correct, not abstained, and with a certified ℓ₂ radius of at least R under Gaussian noise of "
        f"standard deviation σ, n₀ = {certified['n0']}, n = {certified['n']}"
        f"{_sampling(settings['certify_id'], 'which R an image reaches')}, α = {certified['alpha']}: "
        "each image's radius holds with probability ≥ 1 − α.",
        *_precision(settings["certify_id"], "These radii are"),
        f"Images: {counts}.",
        *_more_images(evidence, config),
        *about_the_sets(config),
    ]


def _more_images(evidence, config):
    """How many ID images the clean accuracy is of, where those are more than all else is computed on."""
    clean = of_methods(evidence, "clean", config)
    more = clean[clean["set"] == "id_more"].groupby("method")["sample"].nunique()
    if more.empty:
        return []
    total = more + images_per_set(evidence, "clean", config, ["id"])["id"]
    names = listed([label(method) for method in config["methods"] if method in more])
    return [f"The clean accuracy of {names} is of {span(total)} images."]


def _autoattack(evidence, config):
    epsilons = config["evaluation"]["attack_id"]["epsilons"]
    return [
        "Accuracy on in-distribution test images, in %, under each attack of AutoAttack alone and under the worst of "
        f"them for each image, in the ℓ∞ ball of radius ε = {listed(epsilons)} "
        f"({attack_settings(evidence, 'attack_id', config, AUTOATTACK)}).",
        "A dash: not an attack of the version that the method is attacked with.",
        about_the_draws(evidence, config),
        f"Images: {images_per_set(evidence, 'attack_id', config, ['id'])['id']}.",
        *about_the_sets(config),
    ]


def _sanity(evidence, config):
    evaluation, linear = config["evaluation"], evidence["attack_linear"]
    gains = (linear["attacked"] - linear["clean"]) / (linear["maximum"] - linear["clean"])
    images = sanity_table(evidence, config)["images"]
    return [
        f"AUC, in %, of the clean ID scores against {span(images)} OOD images ({evaluation['sanity']['images']} of "
        "each set) under the attack on OOD confidence, whose table of results is ood.",
        f"By radius: with the full budget; at ε = {evaluation['epsilon']:g} also with a quarter of its iterations and "
        "queries, by the white-box attacks alone, and by Square alone, which sees no gradient; Square wins: the share "
        "of images, in %, on which it finds a higher score than they.",
        "An attack is reliable if the mean attacked score rises with every step of ε (radius), the AUC reaches chance "
        f"or less where any image can be reached (chance), Square wins on at most {100 * WINS:g} % of the images "
        "(Square), and a quarter of the budget does no better (budget). Differences below "
        f"{SLACK:g} of the gap between the mean clean scores of ID and OOD images do not count.",
        "A method whose attack fails may hide its gradients, or the budget may be too small: its adversarial values "
        "are then too favourable.",
        f"On a linear score the same attack gains at least {100 * gains.min():.2f} % of what is possible, "
        f"on {len(linear)} images.",
        *about_the_sets(config),
    ]


def _ood(evidence, config):
    return [
        f"Detection of {len(config['data']['ood'])} OOD sets and their average: AUC, AUPR and FPR at 95 % TPR, "
        "in %, in-distribution positive.",
        *about_the_sets(config),
        *(_published(config) if is_published(config) else about_the_protocols(evidence, config)),
    ]


def _headline(evidence, config):
    return [
        "Mean of AUC, AUPR and 1 − FPR95 over the clean, guaranteed and adversarial protocols, in %, each averaged "
        f"over {len(config['data']['ood'])} OOD sets.",
        "Lead: a method's mean minus the best mean among the others, in points.",
        *_distro_lead(evidence, config),
        *about_the_sets(config),
        *(_published(config) if is_published(config) else about_the_protocols(evidence, config)),
    ]


def _ablation(evidence, config):
    settings = config["evaluation"]
    return [
        "The published protocol, which is what the public code of the paper's authors computes, on the models of this "
        "run, and the effect of each of its flags (docs/defects.md): the value with all flags published, and with the "
        "one flag made sound, in %; effect: sound minus published, in points.",
        "Of each flag the measure that it moves most, for DISTRO, or where the flag does not act on it for the method "
        "on which it has the largest effect; all measures of all methods, and why a flag does not act, are in the csv "
        "file. Last, the headline mean of every method with all flags made sound.",
        "Guaranteed, adversarial, clean: averages over the OOD sets; above the bound: OOD images whose attacked score "
        "is above their guaranteed bound; population: OOD images that enter the AUC at R; highest: the largest value "
        "that counts as a confidence; a single image: whether its bound can be computed. A dash: no value, for nothing "
        f"is certified{'' if l2_metric(config) == 'auc' else ', or its evidence was sampled adaptively'}.",
        f"Images: {settings['published']['images']} of every set; votes of n₀ = {settings['published']['n0']} and "
        f"n = {settings['published']['n']} draws at σ = {settings['sigma']:g}. With all flags sound the values are of "
        "the same images in the evidence of the other tables, with its draws and attacks.",
        *_without_effect(config),
        *about_the_sets(config),
    ]


def _without_effect(config):
    """The flags that act on no method, and why."""
    cases = [case_of(method, config) for method in config["methods"]]
    reasons = {flag: dict.fromkeys(one.idle(case) for case in cases) for flag, one in FLAGS.items()}
    texts = [f"{flag} ({'; '.join(why)})" for flag, why in reasons.items() if None not in why]
    return [f"No effect here: {', '.join(texts)}."] if texts else []


def _published(config):
    """What numbers of the published protocol are, and are not."""
    settings = config["evaluation"]
    return [
        "PUBLISHED PROTOCOL: what the public code of the paper's authors computes, with all its departures from the "
        "mathematics (docs/defects.md and table ablation). These numbers are not sound: a guaranteed one guarantees "
        "nothing. `protocol: sound` in the config gives those that are.",
        f"Images: {settings['published']['images']} of every set; for AUPR each ID image counts ten times, "
        f"ID:OOD = 10:1. Guaranteed and adversarial: in the ℓ∞ ball of radius ε = {settings['epsilon']:g}.",
        f"{MARK}, on every method: no check of its attack was made.",
    ]


def _claims(evidence, config):
    return [
        f"Published claims of DISTRO and of methods that it builds on, held against this run on "
        f"{label(config['data']['id'])}; values in %, differences in points.",
        "Expected: a border declared, with its tolerance, in paper/claims.yaml.",
        "Measured: of the comparisons that a claim makes the least favourable one, named under Why, with a 95 % "
        f"interval by a paired bootstrap over images ({RESAMPLES} resamples). How other trainings, stronger attacks or "
        "other noise draws would change it is not in the interval.",
        "Reproduced: all of the interval is as expected; not reproduced: none of it; not testable here: part of it, or "
        "the run lacks what the claim needs.",
        "The adversarial value of a method whose attack fails a sanity check may be anything lower.",
        numbers_of_images(evidence, "clean", config),
        *about_the_sets(config),
    ]


def _reported(evidence, config):
    return [
        "Published numbers beside those of this run, in %, differences in points, with what differs in setting as far "
        "as paper/reported.csv knows it, and what this run's numbers rest on (here).",
        "What it lacks, networks, training and attacks among it, is in the papers, and nearly always differs.",
        f"Of the rows in the csv file at most {SHOWN} are shown, those with the fewest known differences, the "
        "papers and methods in turn.",
        numbers_of_images(evidence, "clean", config),
        *about_the_sets(config),
    ]


def _l2(evidence, config):
    settings = _values(evidence, "certify_l2", config, ("n", "alpha"))
    attack = of_methods(evidence, "attack_l2", config)
    rows = of_methods(evidence, "certify_l2", config)
    ood = rows[rows["set"].isin(config["data"]["ood"])]
    vacuous = np.isposinf(ood["upper"]) | ((ood["bound"] != "percentile") & (ood["upper"] >= 1 - 1e-6))
    vacuous = vacuous.groupby(ood["bound"], sort=False).mean()
    shown = l2_metric(config)
    others = listed([metric.upper() for metric in METRICS if metric != shown])
    settled = [
        "Adaptive sampling settles decisions at the FPR95 threshold alone: FPR95 may be some points higher than with "
        f"all draws, {others} far worse."
    ]
    return [
        f"{shown.upper()}, in %, averaged over {len(config['data']['ood'])} OOD sets, when the OOD images are "
        f"perturbed within an ℓ₂ norm of R. {others}, and every set by itself, are in the csv file.",
        *(settled if shown != "auc" else []),
        "Bounds: guaranteed under any such perturbation, by ID lower bounds at R = 0 against OOD upper bounds at R.",
        "Scores are smoothed with Gaussian noise of standard deviation σ: their median for the percentile bound, "
        "their mean for the others (cdf from a Berk–Jones band around the scores' distribution, gaussian and lipschitz "
        "from a betting bound on their mean).",
        f"n = {settings['n']} draws"
        f"{_sampling(config['evaluation']['certify_l2'], 'on which side of the FPR95 threshold an OOD bound lies')}, "
        f"α = {settings['alpha']}: "
        "each bound holds per image, per radius and per side with probability ≥ 1 − α, not jointly.",
        *_without_range(config),
        "OOD bounds that say nothing (infinite, or 1 for a mean score): "
        + ", ".join(f"{label(bound)} {percent(share)}" for bound, share in vacuous.items())
        + ". An infinite bound counts as the worst value.",
        f"Attack: no bound, but what an attack achieved on the median at σ = {listed(attack['sigma'].unique())}, the "
        f"{'lower' if shown == 'fpr95' else 'upper'} end of the percentile bound's bracket, up to Monte-Carlo error. "
        f"It maximises the mean of the score under noise ({attack_budget(attack, L2_ATTACK)}), is judged on "
        f"n = {span(attack['n'])} fresh draws, and each image takes its strongest result over all radii up to R.",
        *_precision(config["evaluation"]["certify_l2"], "Bounds, and what the attack is judged on, are"),
        *about_the_sets(config),
        numbers_of_images(evidence, "certify_l2", config),
    ]


def _without_range(config):
    """Which methods' scores admit no bound but the percentile one."""
    wanted = config["evaluation"]["certify_l2"]["bounds"]
    methods = [label(name) for name, one in config["methods"].items() if bounds_of(one, wanted) != wanted]
    if not methods:
        return []
    return [f"The scores of {listed(methods)} have no range, so that of these bounds only the percentile one exists."]


def _distro_lead(evidence, config):
    table = reported_headline_table(evidence, config).set_index("method")
    if "distro" not in table.index:
        return []
    earlier = [method for method in table.index if not is_randomised(config["methods"][method])]
    if not earlier:
        return []
    best = table.loc[earlier, "mean"].idxmax()
    lead = points(table.loc["distro", "mean"] - table.loc[best, "mean"])
    return [f"DISTRO minus the best method without a denoiser ({label(best)}): {lead} points."]


def _values(evidence, evaluation, config, columns):
    """The settings found in an evaluation's rows over all methods, as text: one value, or lowest to highest."""
    rows = of_methods(evidence, evaluation, config)
    return {column: span(rows[column]) for column in columns}


def _precision(settings, what):
    return [f"{what} of the networks in bfloat16."] if settings.get("precision") == "bfloat16" else []


def _sampling(settings, question):
    return f" (adaptive: until it is settled {question})" if settings["sampling"] == "adaptive" else ""
