"""Published claims: what paper/claims.yaml declares, and the verdict that a run's evidence allows."""

from pathlib import Path

import numpy as np
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from oodcert import paths
from oodcert.errors import InputError

CLAIMS = paths.PAPER / "claims.yaml"
SCHEMA = paths.SCHEMAS / "claims.schema.yaml"
SETTINGS = {  # of every quantity of a measure, beside its method: those of the methods of oodcert.reporting.tables.measures
    "detection": {"protocol", "metric"},
    "headline": set(),
    "guaranteed_l2": {"bound", "sigma", "radius"},
    "accuracy": set(),
    "adversarial_accuracy": {"epsilon"},
    "certified_accuracy": {"sigma", "radius"},
}
TAIL = 0.025  # of the interval, on either side
VERDICTS = REPRODUCED, NOT_REPRODUCED, NOT_TESTABLE = "reproduced", "not reproduced", "not testable here"


def read_claims(path=CLAIMS):
    """The claims of a YAML file, a list of dicts as workflow/schemas/claims.schema.yaml has them.

    Raises InputError naming the file, the claim and the key where it is unreadable or not valid.
    """
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        cause = " ".join(str(error).split())
        raise InputError(f"{path} is not a readable YAML file ({cause}): correct it, or restore it.") from error
    error = best_match(Draft202012Validator(yaml.safe_load(SCHEMA.read_text())).iter_errors(found))
    if error is not None:
        raise InputError(f"{path}: {_where(error.absolute_path, found)}: {error.message}. See {SCHEMA.name}.")
    names = [claim["id"] for claim in found["claims"]]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: claim {name} is declared {names.count(name)} times. Give each its own id.")
    for claim in found["claims"]:
        _check_settings(claim, path)
    return found["claims"]


def interval(values, low_known, high_known, images):
    """(measured, lower, upper): a 95 % interval of the least of some values, % [K, 1 + resamples].

    By percentiles of the resamples, widened to hold what was measured. Where these are all alike, it is widened by the
    share of images that may differ from so many that do not: 1 - 0.025^(1/images). The least value is above its lower
    end unless the one that is least in truth is below its own; it is below its upper end unless one of K ends fails, so
    that each of those takes a K-th of the error (Bonferroni).

    low_known, high_known: bool [K], whether a value has an end there; one that rests on an attack that fails a sanity
    check may be anything lower.
    """
    measured, resampled = values[:, 0], values[:, 1:]
    unseen = np.where(np.ptp(resampled, axis=1) == 0, 100 * (1 - TAIL ** (1 / images)), 0)
    low = np.minimum(np.quantile(resampled, TAIL, axis=1), measured - unseen)
    high = np.maximum(np.quantile(resampled, 1 - TAIL / len(values), axis=1), measured + unseen)
    low, high = np.where(low_known, low, -np.inf), np.where(high_known, high, np.inf)
    return float(measured.min()), float(low.min()), float(high.min())


def decide(low, high, value, tolerance, near=False):
    """A verdict: REPRODUCED where the interval lies above value - tolerance, and NOT_REPRODUCED where it lies below.

    near: it must lie within the tolerance on both sides, or outside. NOT_TESTABLE where it holds a border.
    """
    bottom, top = value - tolerance, value + tolerance if near else np.inf
    if bottom < low and high < top:
        return REPRODUCED
    return NOT_REPRODUCED if high < bottom or low > top else NOT_TESTABLE


def border(expected):
    """What a claim expects, as text: above or below a border, or within two, in % or points."""
    value, tolerance = expected["value"], expected["tolerance"]
    if expected["direction"] == "near":
        return f"from {_number(value - tolerance)} to {_number(value + tolerance)}"
    above = expected["direction"] == "above"
    return f"{expected['direction']} {_number(value - tolerance if above else value + tolerance)}"


def _check_settings(claim, path):
    """Whether a claim's measure has the settings of its quantity, and none of another."""
    measure = claim["measure"]
    wanted, given = SETTINGS[measure["quantity"]], set(measure) - {"quantity", "method", "minus", "relative"}
    for where, wrong in (
        ("measure", given ^ wanted),
        ("measure.minus", set(measure.get("minus", {})) - wanted - {"method"}),
    ):
        if wrong:
            raise InputError(
                f"{path}: claim {claim['id']}, {where}: {', '.join(sorted(wrong))}; "
                f"{measure['quantity']} takes {', '.join(sorted(wanted)) or 'no settings'}. Correct it."
            )


def _where(keys, found):
    """The place of an error, the claim by its id."""
    keys = list(keys)
    if len(keys) < 2:
        return ".".join(map(str, keys)) or "the top level"
    claim = found["claims"][keys[1]]
    name = claim.get("id", keys[1]) if isinstance(claim, dict) else keys[1]
    return f"claim {name}" + (f", {'.'.join(map(str, keys[2:]))}" if keys[2:] else "")


def listed(names):
    """One name or several, as a list."""
    return [names] if isinstance(names, str) else list(names)


def _number(value):
    return f"{value:g}".replace("-", "−")
