"""The order of the rows of an evaluation, whatever order they were computed in. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def ordered(rows: pd.DataFrame, columns: Sequence[str], sets: Sequence[str]) -> pd.DataFrame:
    """The rows, grouped by the values of the columns, the outermost first. Within a group they keep their order.

    Names of quantities and flags are in the order of their length, then of the alphabet. Values of the other columns
    are in the order in which they first occur.

    Args:
        rows: of an evaluation.
        columns: the `order` of its EvaluationSpec.
        sets: names of the image sets, in their order.

    Returns:
        The rows with a new index from 0.
    """
    ranks = [_ranks(rows[column], sets) for column in columns]
    return rows.iloc[np.lexsort(ranks[::-1])].reset_index(drop=True)


def _ranks(column: pd.Series, sets: Sequence[str]) -> np.ndarray:
    names = list(sets)
    if column.name in ("quantity", "corrected_flag"):
        names = sorted(column.unique(), key=lambda name: (len(name), name))
    elif column.name != "set":
        return pd.factorize(column)[0]
    return column.map({name: rank for rank, name in enumerate(names)}).to_numpy()
