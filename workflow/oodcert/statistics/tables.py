"""Checks of the tables of `oodcert.certify` from which metrics are computed."""

from __future__ import annotations

from typing import Any

import pandas as pd

from oodcert.errors import InputError

COLUMNS = ("bound", "sigma", "radius", "lower", "upper")


def check_table(name: str, table: Any) -> None:
    """Checks that a table has rows, the columns of bounds, and a value in each of their cells.

    Args:
        name: "ID" or "OOD"; the message names it.
        table: What is meant to be a table of `oodcert.certify`.

    Raises:
        InputError: It is none.
    """
    if not isinstance(table, pd.DataFrame):
        raise InputError(f"The {name} table is a {type(table).__name__}: give the table that oodcert.certify returns.")
    absent = [column for column in COLUMNS if column not in table]
    if absent:
        raise InputError(f"The {name} table has no column {', '.join(absent)}: give one of oodcert.certify.")
    if table.empty:
        raise InputError(f"The {name} table has no rows: metrics need at least one image. Check how it was selected.")
    for column in COLUMNS:
        count = int(table[column].isna().sum())
        if count:
            raise InputError(f"The {name} table has {count} cells without a value in the column {column}: drop them.")
    texts = [column for column in COLUMNS[1:] if table[column].dtype.kind not in "fiu"]
    if texts or not all(isinstance(bound, str) for bound in table["bound"].unique()):
        raise InputError(
            f"The {name} table holds another type than oodcert.certify gives in {', '.join(texts) or 'bound'}: numbers "
            "are needed, and names of bounds."
        )
