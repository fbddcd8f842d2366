"""Claims of papers beside what a run says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from oodcert.config.models import Config
from oodcert.evidence.store import Evidence
from oodcert.reporting.claims import (
    DIFFERENCES,
    NOT_TESTABLE,
    RATIOS,
    REPRODUCED,
    SETTINGS,
    VALUES,
    Claim,
    border,
    decide,
    interval,
    listed,
    read_claims,
)
from oodcert.reporting.display_names import label
from oodcert.reporting.reported_values import reported_value
from oodcert.reporting.tables.measures import Measures, NotMeasured
from oodcert.reporting.tables.setting import lacking


@dataclass(frozen=True)
class Verdict:
    """What a run says of a claim.

    Attributes:
        verdict: one of oodcert.reporting.claims.VERDICTS.
        why: the reason, in words.
        measured: the value, in % or points; NaN if there is none.
        lower, upper: the ends of its 95 % interval; NaN if there is none, infinite if an attack is not reliable.
    """

    verdict: str
    why: str
    measured: float = np.nan
    lower: float = np.nan
    upper: float = np.nan


def claims_table(evidence: Evidence, config: Config, claims: Sequence[Claim] | None = None) -> pd.DataFrame:
    """A row per claim: id, statement, source, declared, reported_value, expected; then the fields of its Verdict.

    reported_value: what the paper gives, as text. expected: the border that measured is compared with. The interval of
    measured is by a paired bootstrap over images.

    Args:
        evidence: the run's.
        config: the run's.
        claims: as of oodcert.reporting.claims.read_claims; None: those of paper/claims.yaml.

    Returns:
        The table, in the order of the claims.

    Raises:
        InputError: if evidence is missing, or methods were evaluated on different images.
    """
    measures = Measures(evidence, config)
    rows = [
        {
            **{key: claim[key] for key in ("id", "statement", "source", "declared")},
            "reported_value": reported_value(claim["reported_value"]),
            "expected": border(claim["expected"]),
            **asdict(judge(claim, measures, config)),
        }
        for claim in (read_claims() if claims is None else claims)
    ]
    return pd.DataFrame(rows)


def judge(claim: Claim, measures: Measures, config: Config) -> Verdict:
    """The verdict on one claim.

    A claim is tested only if the run has what it needs. Then each of its methods is compared with each that it is held
    against. The `interval` of the least difference decides; of a claim that is `below`, that of the greatest.

    Args:
        claim: one of `read_claims`.
        measures: the run's quantities.
        config: the run's.

    Returns:
        The Verdict.

    Raises:
        InputError: if evidence is missing, or methods were evaluated on different images.
    """
    methods = listed(claim["measure"]["method"])
    absent = {*methods, *listed(claim["measure"].get("minus", {}).get("method", []))} - config.methods.keys()
    if absent:
        return Verdict(NOT_TESTABLE, f"no {' and no '.join(label(name) for name in sorted(absent))} in this run")
    lacks = lacking(claim.get("needs", {}), config, methods)
    if lacks:
        return Verdict(NOT_TESTABLE, "; ".join(lacks))
    try:
        comparisons = _comparisons(claim["measure"], measures)
    except NotMeasured as error:
        return Verdict(NOT_TESTABLE, str(error))
    return _decided(claim, comparisons, config.data.test_images)


@dataclass(frozen=True)
class _Comparisons:
    """The comparisons that a claim makes.

    pairs: of methods; lows and highs: values in %, or their differences, [pairs, 1 + resamples], for lower and for
    upper ends; low_known and high_known: whether the value has an end there [pairs]; possible: the least and the
    greatest value.
    """

    pairs: Sequence[tuple[str, str | None]]
    lows: np.ndarray
    highs: np.ndarray
    low_known: np.ndarray
    high_known: np.ndarray
    possible: tuple[float, float]

    def negated(self) -> _Comparisons:
        """The comparisons of the negated values."""
        least, greatest = self.possible
        known = (self.high_known, self.low_known)
        return _Comparisons(self.pairs, -self.highs, -self.lows, *known, (-greatest, -least))


def _comparisons(measure: dict[str, Any], measures: Measures) -> _Comparisons:
    if "minus" not in measure:
        return _values(measure, measures)
    quantity, minus = measure["quantity"], measure["minus"]
    settings = {key: measure[key] for key in SETTINGS[quantity]}
    rows: list[tuple[tuple[str, str | None], np.ndarray, bool, bool]] = []
    for method in listed(measure["method"]):
        left = {**settings, "method": method}
        value, known = measures.value(quantity, True, **left), not measures.too_favourable(quantity, **left)
        for other in listed(minus.get("method", method)):
            right = {**left, **minus, "method": other}
            subtracted = measures.value(quantity, False, **right)
            difference = value - subtracted
            relative = 100 * difference / subtracted if "relative" in measure else difference
            rows.append(((method, other), relative, known, not measures.too_favourable(quantity, **right)))
    pairs, values, low_known, high_known = zip(*rows, strict=True)
    possible = RATIOS if "relative" in measure else DIFFERENCES
    both = np.array(values)
    return _Comparisons(pairs, both, both, np.array(low_known), np.array(high_known), possible)


def _values(measure: dict[str, Any], measures: Measures) -> _Comparisons:
    """The comparisons of a claim on single values, with the value that it expects."""
    quantity = measure["quantity"]
    settings = [{**{key: measure[key] for key in SETTINGS[quantity]}, "method": m} for m in listed(measure["method"])]
    lows, highs = (
        np.array([ends.value(quantity, True, **one) for one in settings]) for ends in (measures, measures.within)
    )
    known = np.array([not measures.too_favourable(quantity, **one) for one in settings])
    pairs = [(one["method"], None) for one in settings]
    return _Comparisons(pairs, lows, highs, known, np.full(len(pairs), True), VALUES)


def _decided(claim: Claim, comparisons: _Comparisons, images: int) -> Verdict:
    """The verdict by the interval of the comparison that decides."""
    expected = claim["expected"]
    sign = -1 if expected["direction"] == "below" else 1  # below: the same claim of the negated values
    one = comparisons.negated() if sign < 0 else comparisons
    least, low, high = interval(one.lows, one.low_known, one.high_known, images, one.possible, one.highs)
    verdict = decide(low, high, sign * expected["value"], expected["tolerance"], expected["direction"] == "near")
    measured, (low, high) = sign * least, sorted((sign * low, sign * high))
    which = _named(one.pairs[int(np.argmin(np.abs(one.lows[:, 0] - least)))], claim["measure"])
    return Verdict(verdict, which + _reason(verdict, low, high, border(expected)), measured, low, high)


def _reason(verdict: str, low: float, high: float, side: str) -> str:
    if verdict != NOT_TESTABLE:
        return f"{'all' if verdict == REPRODUCED else 'none'} of the interval is {side}"
    if np.isinf([low, high]).any():
        return f"undecided, for an attack fails a sanity check: not all of the interval is {side}"
    return f"undecided with so few images: part of the interval is {side}, part is not"


def _named(pair: tuple[str, str | None], measure: dict[str, Any]) -> str:
    """Which of several comparisons decided, as the beginning of a sentence."""
    method, other = pair
    names = [label(method)] if isinstance(measure["method"], list) else []
    if other is not None and isinstance(measure["minus"].get("method"), list):
        names.append(f"against {label(other)}")
    return f"{' '.join(names)}: " if names else ""
