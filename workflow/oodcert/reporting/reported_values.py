"""Values that papers report: paper/reported.csv, a row per value, cleaned as paper/README.md says."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from oodcert import paths
from oodcert.errors import InputError

REPORTED = paths.PAPER / "reported.csv"
TEXTS = ("ood_set", "norm", "ood_set_reported")  # columns that may be empty


@cache
def reported() -> pd.DataFrame:
    """The rows of paper/reported.csv. Where unknown, radius, sigma and spread are NaN, other columns "".

    Returns:
        The rows, one for each reported value.

    Raises:
        InputError: if the file is unreadable.
    """
    try:
        table = pd.read_csv(REPORTED, dtype=dict.fromkeys(TEXTS, str))
    except (OSError, ValueError) as error:
        raise InputError(f"{REPORTED} is not a readable csv file ({error}): restore it from the repository.") from error
    return table.fillna(dict.fromkeys(TEXTS, ""))


def reported_value(declared: Mapping[str, Any]) -> str:
    """The value that a claim's paper reports, as text: a number in % or points, or what the paper says.

    A number is the mean of rows of paper/reported.csv, minus that of other rows if `minus` selects some.

    Args:
        declared: `reported_value` of a claim of paper/claims.yaml.

    Returns:
        The text.

    Raises:
        InputError: if there are no such rows.
    """
    if "says" in declared:
        return declared["says"]
    chosen = _chosen(declared["rows"])
    value, signed = chosen["value"].mean(), "minus" in declared
    if signed:
        value -= _chosen(declared["rows"] | declared["minus"])["value"].mean()
    text = f"{value:+.1f}" if signed else f"{value:.1f}"
    return ("about " if chosen["approximate"].any() else "") + text.replace("-", "−")


def _chosen(selector: Mapping[str, str | float]) -> pd.DataFrame:
    """The rows with these values; of `paper`, with this beginning."""
    rows = reported()
    for column, value in selector.items():
        if column == "paper":
            rows = rows[rows["paper"].str.startswith(value)]
        else:
            rows = rows[rows[column] == value if isinstance(value, str) else np.isclose(rows[column], value)]
    if rows.empty:
        raise InputError(f"{REPORTED} has no row with {selector}, which a claim of claims.yaml names: correct either.")
    return rows
