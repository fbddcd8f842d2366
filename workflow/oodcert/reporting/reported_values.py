"""Published numbers: paper/reported.csv, a row per number, cleaned as paper/README.md says."""

from functools import cache

import numpy as np
import pandas as pd

from oodcert import paths
from oodcert.errors import InputError

REPORTED = paths.PAPER / "reported.csv"
TEXTS = ("ood_set", "norm", "ood_set_reported")  # columns that may be empty


@cache
def reported():
    """The rows of paper/reported.csv: DataFrame; radius, sigma and spread are NaN, other fields "", where unknown.

    Raises InputError where the file is unreadable.
    """
    try:
        table = pd.read_csv(REPORTED, dtype=dict.fromkeys(TEXTS, str))
    except (OSError, ValueError) as error:
        raise InputError(f"{REPORTED} is not a readable csv file ({error}): restore it from the repository.") from error
    return table.fillna(dict.fromkeys(TEXTS, ""))


def published(declared):
    """What a claim of paper/claims.yaml gives as published, as text: a number in % or points, or what the paper says.

    A number is the mean of the rows selected, minus that of the rows that `minus` selects instead. Raises InputError
    where there are no such rows.
    """
    if "says" in declared:
        return declared["says"]
    chosen = _chosen(declared["rows"])
    value, signed = chosen["value"].mean(), "minus" in declared
    if signed:
        value -= _chosen(declared["rows"] | declared["minus"])["value"].mean()
    text = f"{value:+.1f}" if signed else f"{value:.1f}"
    return ("about " if chosen["approximate"].any() else "") + text.replace("-", "−")


def _chosen(selector):
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
