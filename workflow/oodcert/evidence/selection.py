"""Rows of the evidence, with a readable error where they are missing."""

from __future__ import annotations

import numpy as np
import pandas as pd

from oodcert.errors import InputError
from oodcert.evidence.store import Evidence


def rows_of_method(evidence: Evidence, evaluation: str, method: str) -> pd.DataFrame:
    """The rows of one method in one evaluation.

    Args:
        evidence: evaluation -> its rows.
        evaluation: its name.
        method: its name.

    Returns:
        The rows, at least one.

    Raises:
        InputError: if there are none.
    """
    frame = evidence.get(evaluation)
    rows = None if frame is None else frame[frame["method"] == method]
    if rows is None or rows.empty:
        raise InputError(
            f"There is no {evaluation} evidence of method {method!r}: run that evaluation for it, "
            "or take the method out of `methods` in the configuration."
        )
    return rows


def rows_of_set(rows: pd.DataFrame, evaluation: str, name: str) -> pd.DataFrame:
    """The rows of one image set, among those of one method.

    Args:
        rows: of one method.
        evaluation: the rows' evaluation; messages name it.
        name: of the image set.

    Returns:
        The rows, at least one.

    Raises:
        InputError: if there are none.
    """
    chosen = rows[rows["set"] == name]
    if chosen.empty:
        raise InputError(
            f"The {evaluation} evidence of method {rows['method'].iloc[0]!r} has no rows of the set {name!r}: "
            "run the evaluation again with that set, or take it out of `data.ood` in the configuration."
        )
    return chosen


def rows_at(rows: pd.DataFrame, evaluation: str, column: str, value: float | str) -> pd.DataFrame:
    """The rows whose column has the value that the configuration gives, among those of one method.

    Args:
        rows: of one method.
        evaluation: the rows' evaluation; messages name it.
        column: name of a column.
        value: the wanted value; numbers are compared up to rounding.

    Returns:
        The rows, at least one.

    Raises:
        InputError: if there are none.
    """
    chosen = rows[rows[column] == value if isinstance(value, str) else np.isclose(rows[column], value)]
    if chosen.empty:
        raise InputError(
            f"The {evaluation} evidence of method {rows['method'].iloc[0]!r} has {column} = "
            f"{sorted(rows[column].unique().tolist())}, not {value!r} as configured: run the evaluation again."
        )
    return chosen
