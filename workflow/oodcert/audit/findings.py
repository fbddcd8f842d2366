"""What the checks of an audit report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

RERUN = "restore the file of the original run, or delete it and run again"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        file: its name in the manifest.
        where: the place in it.
        problem: what is wrong, with the value.
        remedy: what to do.
    """

    file: str
    where: str
    problem: str
    remedy: str = RERUN


@dataclass(frozen=True)
class Result:
    """What one check did.

    Attributes:
        check: its name.
        compared: how many things it compared.
        findings: what is wrong.
        unchecked: what it could not check, and why.
        details: further lines for the report.
    """

    check: str
    compared: int
    findings: list[Finding] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """FAILED with any finding; not checked where something was not, or nothing was compared; else ok."""
        if self.findings:
            return "FAILED"
        return "ok" if self.compared and not self.unchecked else "not checked"


@dataclass(frozen=True)
class RowRule:
    """A rule, and the rows of a frame that break it.

    Attributes:
        problem: what is wrong with those rows.
        rows: the frame.
        bad: which of its rows break the rule: a mask, or True for all.
        columns: the columns whose values show it.
    """

    problem: str
    rows: pd.DataFrame
    bad: ArrayLike
    columns: Sequence[str]

    def findings(self, file: str) -> list[Finding]:
        """A Finding for each bad row."""
        return rows_where(file, self.rows, self.bad, self.columns, self.problem)


def rows_where(file: str, frame: pd.DataFrame, bad: ArrayLike, columns: Sequence[str], problem: str) -> list[Finding]:
    """A Finding for each row of a frame that is bad.

    Args:
        file: the frame's file, as the manifest names it.
        frame: rows of evidence; its index counts the rows of the file.
        bad: a mask of the rows, or True for all.
        columns: whose values the findings show.
        problem: what is wrong with the bad rows.

    Returns:
        The findings, in the order of the rows.
    """
    bad = np.broadcast_to(np.asarray(bad, bool), len(frame))
    chosen = frame.loc[bad, list(columns)] if bad.any() else frame.head(0)
    return [
        Finding(file, f"row {index}", f"{problem}: " + ", ".join(f"{one} = {row[one]}" for one in columns))
        for index, row in chosen.iterrows()
    ]
