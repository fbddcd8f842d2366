"""Claims of papers: what paper/claims.yaml declares, and the verdict that a run's evidence allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from oodcert import paths
from oodcert.errors import InputError

CLAIMS = paths.PAPER / "claims.yaml"
SCHEMA = paths.SCHEMAS / "claims.schema.yaml"
SETTINGS: dict[str, set[str]] = {  # quantity -> its settings, beside the method (oodcert.reporting.tables.measures)
    "detection": {"protocol", "metric"},
    "headline": set(),
    "guaranteed_l2": {"bound", "sigma", "radius"},
    "certified_one_pass": {"sigma", "radius"},
    "accuracy": set(),
    "adversarial_accuracy": {"epsilon"},
    "certified_accuracy": {"sigma", "radius"},
}
TAIL = 0.025  # of the interval, on either side
VALUES, DIFFERENCES, RATIOS = (0.0, 100.0), (-100.0, 100.0), (-100.0, np.inf)  # what is possible, in % or points
VERDICTS = REPRODUCED, NOT_REPRODUCED, NOT_TESTABLE = "reproduced", "not reproduced", "not testable here"

Claim = Mapping[str, Any]  # an entry of paper/claims.yaml, as workflow/schemas/claims.schema.yaml has it


def read_claims(path: str | Path = CLAIMS) -> list[Claim]:
    """The claims of a YAML file that workflow/schemas/claims.schema.yaml describes.

    Args:
        path: of the file.

    Returns:
        The claims, in the order of the file.

    Raises:
        InputError: naming the file, the claim and the key, if the file is unreadable or not valid.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        cause = " ".join(str(error).split())
        raise InputError(f"{path} is not a readable YAML file ({cause}): correct it, or restore it.") from error
    fault = best_match(Draft202012Validator(yaml.safe_load(SCHEMA.read_text())).iter_errors(content))
    if fault is not None:
        raise InputError(f"{path}: {_where(fault.absolute_path, content)}: {fault.message}. See {SCHEMA.name}.")
    names = [claim["id"] for claim in content["claims"]]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: claim {name} is declared {names.count(name)} times. Give each its own id.")
    for claim in content["claims"]:
        _check_settings(claim, path)
    return content["claims"]


def interval(
    values: np.ndarray,
    low_known: np.ndarray,
    high_known: np.ndarray,
    images: int,
    possible: tuple[float, float] = DIFFERENCES,
    for_high: np.ndarray | None = None,
) -> tuple[float, float, float]:
    """The least of K values, with a 95 % interval by percentiles of the resamples.

    The interval is widened to hold the measured value. If all resamples of a value are alike, its interval is widened
    by 1 - 0.025^(1/images): the share of images that may differ from so many that do not. No end is beyond what is
    possible.

    Each end has its own error. The least value lies below the interval only if the value that is least in truth does.
    It lies above the interval only if one of K upper ends fails, so each of these takes a K-th of the error
    (Bonferroni).

    Args:
        values: in % or points, [K, 1 + resamples]; the first column is measured.
        low_known: bool [K], whether a value has a lower end. A value that rests on an attack that fails a sanity check
            may be anything lower.
        high_known: the same of the upper end.
        images: number of images that a value is computed on.
        possible: the least and the greatest that a value can be: VALUES, DIFFERENCES or RATIOS, or those negated.
        for_high: resamples [K, 1 + resamples] for the upper ends, if other ones than for the lower ends (see
            oodcert.statistics.bootstrap).

    Returns:
        measured, lower and upper; an end that is unknown is infinite.
    """
    measured = values[:, 0]
    lows, highs = values[:, 1:], (values if for_high is None else for_high)[:, 1:]
    unseen = 100 * (1 - TAIL ** (1 / images))
    low, high = np.quantile(lows, TAIL, axis=1), np.quantile(highs, 1 - TAIL / len(values), axis=1)
    low = np.minimum(low, measured - np.where(np.ptp(lows, axis=1) == 0, unseen, 0))
    high = np.maximum(high, measured + np.where(np.ptp(highs, axis=1) == 0, unseen, 0))
    low, high = np.maximum(low, possible[0]), np.minimum(high, possible[1])
    low, high = np.where(low_known, low, -np.inf), np.where(high_known, high, np.inf)
    return float(measured.min()), float(low.min()), float(high.min())


def decide(low: float, high: float, value: float, tolerance: float, near: bool = False) -> str:
    """The verdict that an interval allows.

    Args:
        low, high: ends of the interval.
        value, tolerance: what is expected.
        near: False: the interval must lie above value - tolerance; True: within value ± tolerance.

    Returns:
        REPRODUCED if all of the interval is as expected, NOT_REPRODUCED if none of it is, NOT_TESTABLE if it holds a
        border.
    """
    bottom, top = value - tolerance, value + tolerance if near else np.inf
    if bottom < low and high < top:
        return REPRODUCED
    return NOT_REPRODUCED if high < bottom or low > top else NOT_TESTABLE


def border(expected: Mapping[str, Any]) -> str:
    """What a claim expects, as text: above or below a border, or within two, in % or points."""
    value, tolerance = expected["value"], expected["tolerance"]
    if expected["direction"] == "near":
        return f"from {_number(value - tolerance)} to {_number(value + tolerance)}"
    above = expected["direction"] == "above"
    return f"{expected['direction']} {_number(value - tolerance if above else value + tolerance)}"


def listed(names: str | Iterable[str]) -> list[str]:
    """One name or several, as a list."""
    return [names] if isinstance(names, str) else list(names)


def _check_settings(claim: Claim, path: str | Path) -> None:
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


def _where(place: Iterable[str | int], content: Any) -> str:
    """The place of an error, the claim by its id."""
    keys = list(place)
    if len(keys) < 2:
        return ".".join(map(str, keys)) or "the top level"
    claim = content["claims"][keys[1]]
    name = claim.get("id", keys[1]) if isinstance(claim, dict) else keys[1]
    return f"claim {name}" + (f", {'.'.join(map(str, keys[2:]))}" if keys[2:] else "")


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "−")
