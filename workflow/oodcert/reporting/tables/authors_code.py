"""What the published protocol reports, as its authors' code computes it, with one flag made sound, or all.

Functions of (evidence, config, corrected_flag): corrected_flag as of oodcert.authors_code.flags.protocol. They raise InputError where
evidence is missing.
"""

import numpy as np
import pandas as pd

from oodcert.authors_code.flags import ALL, GROUPS, LOADER_BATCH, protocol
from oodcert.authors_code.l2 import certificate, l2_scores, own_radii
from oodcert.config.method_specs import is_randomised
from oodcert.data.noise_sets import NOISE
from oodcert.errors import InputError
from oodcert.evidence.order_checks import ROUNDING
from oodcert.evidence.selection import at, of_method
from oodcert.models.scores import UNBOUNDED_SCORES
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


def measured(evidence, config, corrected_flag="", groups=tuple(GROUPS)):
    """A row per method x measure: method, measure, value.

    Measures: <clean | guaranteed | adversarial>_<auc | aupr | fpr95>, averages over the OOD sets; headline, the mean of
    the nine (1 - FPR95); violations, the share of OOD images whose attacked score is above its bound; l2_auc_<R>,
    the guaranteed l2 AUC, NaN where nothing is certified; l2_population_<R>, the share of OOD images in it; l2_highest,
    the highest value that counts as a confidence; id_accuracy, id_certified_<R> and, of randomised methods,
    id_adversarial at AutoAttack's largest radius: shares of the ID images; single_image, of joint models: 1 where the
    bound of one image alone can be computed. All are of the images of evaluation.published; "all" takes them from the
    evidence of the other evaluations, by the functions of the other tables, but no l2_auc and l2_highest where that was
    sampled adaptively. groups: those of oodcert.authors_code.flags.GROUPS that are wanted, but for "all".
    """
    return _long(
        _sound(evidence, config) if corrected_flag == ALL else _published(evidence, config, corrected_flag, groups)
    )


def authors_code_ood_table(evidence, config, corrected_flag=""):
    """A row per method x OOD set x protocol (clean, guaranteed, adversarial): auc, aupr, fpr95."""
    published, rows = protocol(corrected_flag), []
    for method, method_spec in config["methods"].items():
        found = _Values(evidence, method, corrected_flag)
        inside = np.repeat(found["score", "id"], SURPLUS if "D21" in published else 1)
        for name in config["data"]["ood"]:
            for kind in PROTOCOLS:
                scores = found[QUANTITIES[kind], name]
                if "D20" in published and name in NOISE:
                    scores = scores[repeated(len(scores), LOADER_BATCH[method_spec["denoiser"]])]
                rows.append({"method": method, "set": name, "protocol": kind, **ood_metrics(inside, scores)})
    return pd.DataFrame(rows)


def repeated(count, batch):
    """Which of its images a stateful noise set gives at each of `count` places of a loader with two workers (D20).

    Each worker draws from its own copy of the same generator and has every other batch, so batches come in equal pairs.
    """
    place = np.arange(count)
    return place // (2 * batch) * batch + place % batch


class _Values:
    """Published evidence of one method: [quantity, set] gives an array of values, with the flag `corrected_flag` sound where
    that was measured apart."""

    def __init__(self, evidence, method, corrected_flag):
        rows = of_method(evidence, "published", method)
        self._places = rows.groupby(["quantity", "set", "corrected_flag"], sort=False).indices
        self._values, self._method, self._switched = rows["value"].to_numpy(), method, corrected_flag

    def __getitem__(self, key):
        if (*key, "") not in self._places:
            raise InputError(
                f"The published evidence of method {self._method!r} has no {key[0]} of the set {key[1]!r}: run that "
                "evaluation again."
            )
        return self._values[self._places.get((*key, self._switched), self._places[*key, ""])]


def _published(evidence, config, corrected_flag, groups):
    found, published = {method: {} for method in config["methods"]}, protocol(corrected_flag)
    if "linf" in groups:
        found = _detection(authors_code_ood_table(evidence, config, corrected_flag))
    for method, method_spec in config["methods"].items():
        values = _Values(evidence, method, corrected_flag)
        if "linf" in groups:
            found[method] |= _violations(values, config)
        if "l2" in groups:
            found[method] |= _l2(values, method_spec, config, published)
        if "id" in groups:
            found[method] |= _labels(values, method_spec, config, published)
        if "single" in groups and method_spec["discriminator"]:
            found[method]["single_image"] = values["single_image", "id"].min()
    return found


def _sound(evidence, config):
    few, settings = _same_images(evidence), config["evaluation"]
    found = _detection(ood_table(few, config).query("set != 'average'"))
    labels = id_table(few, config).set_index("method")
    for method, method_spec in config["methods"].items():
        mine = found[method]
        attacked = of_method(few, "attack_linf", method).merge(of_method(few, "guarantee_linf", method))
        mine["violations"] = _share_above(attacked["attacked"], attacked["upper"])
        mine |= _sound_l2(few, config, method)
        mine["id_accuracy"] = labels.loc[method, "clean_accuracy"]
        if is_randomised(method_spec):
            largest = max(settings["attack_id"]["epsilons"])
            mine["id_adversarial"] = labels.loc[method, adversarial_column(largest)]
        for radius in settings["certify_id"]["radii"]:
            mine[f"id_certified_{radius:g}"] = labels.loc[method, certified_column(settings["sigma"], radius)]
        if method_spec["discriminator"]:
            mine["single_image"] = 1.0
    return found


def _sound_l2(evidence, config, method):
    settings, sigma, method_spec = config["evaluation"], config["evaluation"]["sigma"], config["methods"][method]
    bound = certificate(method_spec, settings["certify_l2"]["bounds"])
    one = {"certify_l2": {**settings["certify_l2"], "sigmas": [sigma], "bounds": [bound]}}
    table = guaranteed_l2_table(
        evidence, {**config, "methods": {method: method_spec}, "evaluation": {**settings, **one}}
    ).query("set == 'average'")
    found, known = {}, 1.0 if l2_metric(config) == "auc" else np.nan
    for radius, auc in zip(table["radius"], table["auc"], strict=True):
        found |= {f"l2_auc_{radius:g}": known * auc, f"l2_population_{radius:g}": 1.0}
    if method_spec["score"] in UNBOUNDED_SCORES:
        return found
    rows = at(at(of_method(evidence, "certify_l2", method), "certify_l2", "sigma", sigma), "certify_l2", "bound", bound)
    inside = rows["set"] == "id"
    highest = max(rows.loc[inside & (rows["radius"] == 0), "lower"].max(), rows.loc[~inside, "upper"].max())
    return found | {"l2_highest": known * highest}


def _same_images(evidence):
    """The evidence of the images of the published one alone."""
    scores = evidence["published"].query("quantity == 'score'")
    kept = pd.MultiIndex.from_frame(scores[["set", "sample"]].drop_duplicates())
    few = dict(evidence)
    for name in ("clean", "guarantee_linf", "attack_linf", "certify_l2", "certify_id", "attack_id"):
        few[name] = evidence[name][pd.MultiIndex.from_frame(evidence[name][["set", "sample"]]).isin(kept)]
    return few


def _detection(table):
    """The measures of an ood table by method: dicts."""
    averages = table.groupby(["method", "protocol"], sort=False)[list(METRICS)].mean()
    found = {}
    for method in table["method"].unique():
        parts = {kind: averages.loc[(method, kind)] for kind in PROTOCOLS}
        found[method] = {f"{kind}_{metric}": part[metric] for kind, part in parts.items() for metric in METRICS}
        nine = [value for part in parts.values() for value in (part["auc"], part["aupr"], 1 - part["fpr95"])]
        found[method]["headline"] = np.mean(nine)
    return found


def _violations(values, config):
    attacked, bound = (
        np.concatenate([values[quantity, name] for name in config["data"]["ood"]]) for quantity in ("attacked", "bound")
    )
    return {"violations": _share_above(attacked, bound)}


def _share_above(attacked, bound):
    return float(np.mean(attacked > bound + ROUNDING))


def _l2(values, method_spec, config, published):
    settings, sigma = config["evaluation"]["certify_l2"], config["evaluation"]["sigma"]
    n, highest, found = config["evaluation"]["published"]["n"], -np.inf, {}
    own = {
        name: own_radii(values["agreeing", name], n, sigma, settings["alpha"], published)
        for name in ("id", *config["data"]["ood"])
    }

    def scores(name, radius):
        one_pass, bound = (values[quantity, name] for quantity in ("one_pass", "l2_bound"))
        return l2_scores(one_pass, bound, own[name], radius, name == "id", published)

    for radius in settings["radii"]:
        inside, aucs, shares = scores("id", radius), [], []
        for name in config["data"]["ood"]:
            outside = scores(name, radius)
            shares.append(len(outside) / len(own[name]))
            seen = np.concatenate([inside, outside])
            highest = max([highest, *seen[np.isfinite(seen)]])
            left_out = "D5" in published and not seen.any()  # as their code leaves out a set of zeros
            if len(inside) and len(outside) and not left_out:
                aucs.append(ood_metrics(inside, outside)["auc"])
        found[f"l2_auc_{radius:g}"] = np.mean(aucs) if aucs else np.nan
        found[f"l2_population_{radius:g}"] = np.mean(shares)
    return found if method_spec["score"] in UNBOUNDED_SCORES else found | {"l2_highest": highest}


def _labels(values, method_spec, config, published):
    settings, n = config["evaluation"], config["evaluation"]["published"]["n"]
    certify = settings["certify_id"]
    found = {"id_accuracy": values["correct", "id"].mean()}
    if is_randomised(method_spec):  # no flag departs from the others' AutoAttack
        found["id_adversarial"] = values["robust", "id"].mean()
    own = own_radii(values["agreeing", "id"], n, settings["sigma"], certify["alpha"], published, of_labels=True)
    certified = (values["voted_right", "id"] > 0) & (own > 0)
    return found | {f"id_certified_{radius:g}": (certified & (own >= radius)).mean() for radius in certify["radii"]}


def _long(found):
    rows = [(method, measure, value) for method, measures in found.items() for measure, value in measures.items()]
    return pd.DataFrame(rows, columns=["method", "measure", "value"]).astype({"value": float})
