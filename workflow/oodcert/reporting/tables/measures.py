"""The quantities that claims are about, measured on a run's evidence and on its bootstrap resamples.

All values are in %, arrays [1 + RESAMPLES]: the first is what the tables show, the others are of the resamples of
`oodcert.statistics.bootstrap`. Resamples of one set are the same for all methods and quantities, so that differences are paired.
"""

from functools import cached_property

import numpy as np

from oodcert.config.method_specs import bounds_of
from oodcert.errors import InputError
from oodcert.evidence.selection import at, of_method, of_set
from oodcert.reporting.claims import SETTINGS
from oodcert.reporting.display_names import label
from oodcert.reporting.tables.sanity import sanity_table
from oodcert.reporting.tables.values import PROTOCOLS, WORST_CASE, l2_metric
from oodcert.statistics.bootstrap import ADDED, detection_metrics, drawn, with_added
from oodcert.statistics.metrics import METRICS

OOD_SCORES = {  # protocol -> evaluation and column
    "clean": ("clean", "score"),
    "guaranteed": ("guarantee_linf", "upper"),
    "adversarial": ("attack_linf", "attacked"),
}


class NotMeasured(Exception):
    """A quantity that the configuration does not evaluate; the message says which setting lacks."""


class Measures:
    """The quantities of one run, each computed once.

    evidence, config: as for the tables. Every method named after a quantity takes a method's name, the quantity's
    settings, and favoured: whether the value stands on the claim's side of a comparison (see `oodcert.statistics.bootstrap`).
    It raises NotMeasured where the configuration lacks a setting, and InputError where evidence of one that it has is
    missing, or where methods were evaluated on different images.
    """

    def __init__(self, evidence, config):
        self._evidence, self._config = evidence, config
        self._values, self._drawn, self._samples = {}, {}, {}

    def value(self, quantity, favoured, **settings):
        """One of QUANTITIES, % [1 + RESAMPLES]."""
        key = (quantity, favoured, *sorted(settings.items()))
        if key not in self._values:
            self._values[key] = 100 * QUANTITIES[quantity](self, favoured=favoured, **settings)
        return self._values[key]

    def too_favourable(self, quantity, method, protocol=None, **_):
        """Whether the value rests on an attack on OOD images that fails a sanity check: the truth may be lower."""
        attacked = quantity == "headline" or protocol == "adversarial"
        return attacked and not self._reliable[method]

    def detection(self, method, protocol, metric, favoured):
        """AUC or AUPR over the OOD sets under a protocol: clean, guaranteed or adversarial (l-infinity)."""
        return self._detection(method, protocol, favoured)[metric]

    def headline(self, method, favoured):
        """The mean of AUC, AUPR and 1 - FPR95 over the three protocols."""
        found = [self._detection(method, protocol, favoured) for protocol in PROTOCOLS]
        return np.mean([(one["auc"], one["aupr"], 1 - one["fpr95"]) for one in found], axis=(0, 1))

    def guaranteed_l2(self, method, bound, sigma, radius, favoured):
        """Guaranteed AUC over the OOD sets in the l2 ball, by a bound on the smoothed score."""
        settings = self._config["evaluation"]["certify_l2"]
        _require("σ", sigma, settings["sigmas"])
        _require("R", radius, settings["radii"])
        if bound not in bounds_of(self._config["methods"][method], settings["bounds"]):
            raise NotMeasured(f"no {bound} bound for {label(method)}")
        if l2_metric(self._config) != "auc":
            raise NotMeasured("no AUC in ℓ₂ balls: adaptive sampling settles FPR95 alone")
        rows = at(of_method(self._evidence, "certify_l2", method), "certify_l2", "sigma", sigma)
        rows = at(rows, "certify_l2", "bound", bound)
        inside = self._of_set(at(rows, "certify_l2", "radius", 0.0), "certify_l2", "id")["lower"]
        rows = at(rows, "certify_l2", "radius", radius)
        names = self._config["data"]["ood"]
        outside = {name: self._of_set(rows, "certify_l2", name)["upper"] for name in names}
        return self._average(inside, outside, True, favoured)["auc"]

    def accuracy(self, method, favoured):
        """Clean accuracy on the ID test images."""
        rows = of_method(self._evidence, "clean", method)
        rows = rows[rows["set"].isin(["id", "id_more"])].assign(set="id")
        rows = self._of_set(rows, "clean", "id")
        return self._share(rows["prediction"] == rows["label"], favoured)

    def adversarial_accuracy(self, method, epsilon, favoured):
        """ID accuracy under AutoAttack in the l-infinity ball of radius epsilon."""
        _require("ε", epsilon, self._config["evaluation"]["attack_id"]["epsilons"])
        rows = at(of_method(self._evidence, "attack_id", method), "attack_id", "epsilon", epsilon)
        rows = self._of_set(at(rows, "attack_id", "attack", WORST_CASE), "attack_id", "id")
        return self._share(rows["correct"], favoured)

    def certified_accuracy(self, method, sigma, radius, favoured):
        """ID accuracy certified at an l2 radius under noise of sigma."""
        settings = self._config["evaluation"]["certify_id"]
        _require("σ", sigma, settings["sigmas"])
        _require("R", radius, settings["radii"])
        rows = at(of_method(self._evidence, "certify_id", method), "certify_id", "sigma", sigma)
        rows = self._of_set(rows, "certify_id", "id")
        return self._share(rows["correct"] & (rows["prediction"] >= 0) & (rows["radius"] >= radius), favoured)

    @cached_property
    def _reliable(self):
        return sanity_table(self._evidence, self._config).set_index("method")["reliable"]

    def _detection(self, method, protocol, favoured):
        key = ("metrics", method, protocol, favoured)
        if key not in self._values:
            inside = self._of_set(of_method(self._evidence, "clean", method), "clean", "id")["score"]
            evaluation, column = OOD_SCORES[protocol]
            rows, outside = of_method(self._evidence, evaluation, method), {}
            if protocol != "clean":
                rows = at(rows, evaluation, "epsilon", self._config["evaluation"]["epsilon"])
            for name in self._config["data"]["ood"]:
                chosen = self._of_set(rows, evaluation, name)
                outside[name] = chosen[column]
                if protocol == "guaranteed":  # a vacuous bound is the worst value, also where it equals some ID score
                    outside[name] = outside[name].mask(chosen["vacuous"], np.inf)
            self._values[key] = self._average(inside, outside, protocol == "guaranteed", favoured)
        return self._values[key]

    def _average(self, inside, outside, guaranteed, favoured):
        """The metrics' means over the OOD sets: dict of [1 + RESAMPLES]."""
        found = []
        for name, scores in outside.items():
            if np.isnan(inside).any() or np.isnan(scores).any():
                raise InputError(f"Scores of ID images or of {name} are NaN: run the evaluation again.")
            ranks = with_added(inside.to_numpy(), scores.to_numpy(), favoured)
            draws = self._draws("id", len(inside)), self._draws(name, len(scores))
            found.append(detection_metrics(*ranks, *draws, guaranteed))
        return {metric: np.mean([one[metric] for one in found], axis=0) for metric in METRICS}

    def _share(self, right, favoured):
        """The share of images for which something holds, [1 + RESAMPLES]."""
        right = np.append(right.to_numpy(), (True, False) if favoured else (False, True)).astype(np.int64)
        draws = self._draws("id", len(right) - ADDED)
        return draws @ right / draws.sum(axis=1)

    def _draws(self, name, images):
        key = (name, images)
        if key not in self._drawn:
            self._drawn[key] = drawn(self._config["seed"], name, images)
        return self._drawn[key]

    def _of_set(self, rows, evaluation, name):
        """The rows of one set in the order of their images, which must be the same for all methods."""
        rows = of_set(rows, evaluation, name).sort_values("sample", kind="stable", ignore_index=True)
        samples = self._samples.setdefault((name, len(rows)), rows["sample"].to_numpy())
        if not np.array_equal(samples, rows["sample"]) or rows["sample"].duplicated().any():
            raise InputError(
                f"The {evaluation} evidence of method {rows['method'].iloc[0]!r} is not of the same images of {name!r} "
                "as the others': no paired comparison is possible. Run the evaluation again."
            )
        return rows


QUANTITIES = {name: getattr(Measures, name) for name in SETTINGS}


def _require(name, value, values):
    if not np.isclose(value, values).any():
        raise NotMeasured(f"no {name} = {value:g} in this run")
