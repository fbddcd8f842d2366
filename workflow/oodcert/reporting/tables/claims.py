"""Published claims beside what a run says of them."""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from oodcert.reporting.claims import NOT_TESTABLE, REPRODUCED, SETTINGS, border, decide, interval, listed, read_claims
from oodcert.reporting.display_names import label
from oodcert.reporting.reported_values import published
from oodcert.reporting.tables.measures import Measures, NotMeasured
from oodcert.reporting.tables.setting import lacking


@dataclass(frozen=True)
class Verdict:
    """What a run says of a claim: the measured value and the ends of its interval, in % (NaN where there is none)."""

    verdict: str
    why: str
    measured: float = np.nan
    lower: float = np.nan
    upper: float = np.nan


def claims_table(evidence, config, claims=None):
    """A row per claim: id, statement, source, declared, published, expected; verdict, why, measured, lower, upper.

    claims: as of `oodcert.reporting.claims.read_claims`; None: those of paper/claims.yaml. published: as text; expected: the
    border that measured, in % (differences in points), is held against; lower, upper: its 95 % interval by a paired
    bootstrap over images, NaN where nothing was measured, infinite where an attack is not reliable.
    """
    measures, rows = Measures(evidence, config), []
    for claim in read_claims() if claims is None else claims:
        rows.append(
            {
                **{key: claim[key] for key in ("id", "statement", "source", "declared")},
                "published": published(claim["published"]),
                "expected": border(claim["expected"]),
                **asdict(judge(claim, measures, config)),
            }
        )
    return pd.DataFrame(rows)


def judge(claim, measures, config):
    """The Verdict on one claim of `read_claims`, by the evidence behind `measures`, of the class Measures.

    A claim is tested only where the run has what it needs. Then each of its methods is compared with each that it is
    held against, and the `interval` of the least difference (the greatest, of a claim that is `below`) decides.
    """
    measure, expected, images = claim["measure"], claim["expected"], config["data"]["test_images"]
    methods = listed(measure["method"])
    absent = {*methods, *listed(measure.get("minus", {}).get("method", []))} - config["methods"].keys()
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


def _comparisons(measure, measures):
    """The pairs of methods, the differences in % [pairs, 1 + resamples], and which of their ends are known."""
    quantity, minus = measure["quantity"], measure.get("minus")
    settings = {key: measure[key] for key in SETTINGS[quantity]}
    found = []
    for method in listed(measure["method"]):
        left = {**settings, "method": method}
        value, known = measures.value(quantity, True, **left), not measures.too_favourable(quantity, **left)
        if minus is None:
            found.append(((method, None), value, known, True))
            continue
        for other in listed(minus.get("method", method)):
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
