"""Published claims: what paper/claims.yaml declares, and the verdict that a run's evidence allows."""

import inspect
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from oodcert.errors import InputError
from oodcert.measures import QUANTITIES, NotMeasured
from oodcert.setting import lacking
from oodcert.tables.labels import label

CLAIMS = Path(__file__).parents[2] / "paper" / "claims.yaml"
SCHEMA = Path(__file__).parents[1] / "schemas" / "claims.schema.yaml"
NO_SETTINGS = {"quantity", "method", "minus", "relative"}  # of a measure: the others are those of its quantity
TAIL = 0.025  # of the interval, on either side
VERDICTS = REPRODUCED, NOT_REPRODUCED, NOT_TESTABLE = "reproduced", "not reproduced", "not testable here"


@dataclass(frozen=True)
class Verdict:
    """What a run says of a claim: the measured value and the ends of its interval, in % (NaN where there is none)."""

    verdict: str
    why: str
    measured: float = np.nan
    lower: float = np.nan
    upper: float = np.nan


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


def judge(claim, measures, config):
    """The Verdict on one claim of `read_claims`, by the evidence behind `measures` (`oodcert.measures.Measures`).

    A claim is tested only where the run has what it needs. Then each of its methods is compared with each that it is
    held against, and the `interval` of the least difference (the greatest, of a claim that is `below`) decides.
    """
    measure, expected, images = claim["measure"], claim["expected"], config["data"]["test_images"]
    methods = _listed(measure["method"])
    absent = {*methods, *_listed(measure.get("minus", {}).get("method", []))} - config["methods"].keys()
    if absent:
        return Verdict(NOT_TESTABLE, f"no {' and no '.join(label(name) for name in sorted(absent))} in this run")
    lacks = lacking(claim.get("needs", {}), config, methods)
    if lacks:
        return Verdict(NOT_TESTABLE, "; ".join(lacks))
    try:
        pairs, values, low_known, high_known = _comparisons(measure, measures)
    except NotMeasured as error:
        return Verdict(NOT_TESTABLE, str(error))
    if expected["direction"] == "below":  # the same claim of what is negated
        measured, low, high = interval(-values, high_known, low_known, images)
        verdict = decide(low, high, -expected["value"], expected["tolerance"])
        measured, low, high = -measured, -high, -low
    else:
        measured, low, high = interval(values, low_known, high_known, images)
        verdict = decide(low, high, expected["value"], expected["tolerance"], expected["direction"] == "near")
    which = _named(pairs[int(np.argmin(np.abs(values[:, 0] - measured)))], measure)
    side = border(expected)
    if verdict != NOT_TESTABLE:
        why = f"{'all' if verdict == REPRODUCED else 'none'} of the interval is {side}"
    elif np.isinf([low, high]).any():
        why = f"undecided, for an attack fails a sanity check: not all of the interval is {side}"
    else:
        why = f"undecided with so few images: part of the interval is {side}, part is not"
    return Verdict(verdict, which + why, measured, low, high)


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


def _comparisons(measure, measures):
    """The pairs of methods, the differences in % [pairs, 1 + resamples], and which of their ends are known."""
    settings = {key: value for key, value in measure.items() if key not in NO_SETTINGS}
    quantity, minus = measure["quantity"], measure.get("minus")
    found = []
    for method in _listed(measure["method"]):
        left = {**settings, "method": method}
        value, known = measures.value(quantity, True, **left), not measures.too_favourable(quantity, **left)
        if minus is None:
            found.append(((method, None), value, known, True))
            continue
        for other in _listed(minus.get("method", method)):
            right = {**left, **minus, "method": other}
            subtracted = measures.value(quantity, False, **right)
            difference = value - subtracted
            relative = 100 * difference / subtracted if "relative" in measure else difference
            found.append(((method, other), relative, known, not measures.too_favourable(quantity, **right)))
    pairs, values, low_known, high_known = zip(*found, strict=True)
    return pairs, np.array(values), np.array(low_known), np.array(high_known)


def _named(pair, measure):
    """Which of several comparisons decided, as the beginning of a sentence."""
    method, other = pair
    names = [label(method)] if isinstance(measure["method"], list) else []
    if isinstance(measure.get("minus", {}).get("method"), list):
        names.append(f"against {label(other)}")
    return f"{' '.join(names)}: " if names else ""


def _check_settings(claim, path):
    """Whether a claim's measure has the settings of its quantity, and none of another."""
    measure = claim["measure"]
    wanted = set(inspect.signature(QUANTITIES[measure["quantity"]]).parameters) - {"self", "favoured"}
    given = measure.keys() - NO_SETTINGS | {"method"}
    for where, wrong in (("measure", given ^ wanted), ("measure.minus", measure.get("minus", {}).keys() - wanted)):
        if wrong:
            raise InputError(
                f"{path}: claim {claim['id']}, {where}: {', '.join(sorted(wrong))} {'is' if len(wrong) == 1 else 'are'} "
                f"wrong, for {measure['quantity']} takes {', '.join(sorted(wanted))}. Add or remove it."
            )


def _where(keys, found):
    """The place of an error, the claim by its id."""
    keys = list(keys)
    if len(keys) < 2:
        return ".".join(map(str, keys)) or "the top level"
    claim = found["claims"][keys[1]]
    name = claim.get("id", keys[1]) if isinstance(claim, dict) else keys[1]
    return f"claim {name}" + (f", {'.'.join(map(str, keys[2:]))}" if keys[2:] else "")


def _listed(names):
    return [names] if isinstance(names, str) else list(names)


def _number(value):
    return f"{value:g}".replace("-", "−")
