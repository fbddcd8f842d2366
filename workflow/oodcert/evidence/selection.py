"""Rows of the evidence, with a readable error where they are missing."""

import numpy as np

from oodcert.errors import InputError


def of_method(evidence, evaluation, method):
    """The rows of one method in one evaluation. Raises InputError where there are none."""
    frame = evidence.get(evaluation)
    rows = None if frame is None else frame[frame["method"] == method]
    if rows is None or rows.empty:
        raise InputError(
            f"There is no {evaluation} evidence of method {method!r}: run that evaluation for it, "
            "or take the method out of `methods` in the configuration."
        )
    return rows


def of_set(rows, evaluation, name):
    """The rows of one image set. Raises InputError where there are none."""
    chosen = rows[rows["set"] == name]
    if chosen.empty:
        raise InputError(
            f"The {evaluation} evidence of method {rows['method'].iloc[0]!r} has no rows of the set {name!r}: "
            "run the evaluation again with that set, or take it out of `data.ood` in the configuration."
        )
    return chosen


def at(rows, evaluation, column, value):
    """The rows whose column equals a setting (float or str) of the config. Raises InputError where there are none."""
    chosen = rows[rows[column] == value if isinstance(value, str) else np.isclose(rows[column], value)]
    if chosen.empty:
        raise InputError(
            f"The {evaluation} evidence of method {rows['method'].iloc[0]!r} has {column} = "
            f"{sorted(rows[column].unique().tolist())}, not {value!r} as configured: run the evaluation again."
        )
    return chosen
