"""What a check of the audit found."""

from dataclasses import dataclass, field

import numpy as np

RERUN = "restore the file from the published run, or delete it and run again"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: file, as the manifest names it; where in it; what, with the value; what to do."""

    file: str
    where: str
    problem: str
    remedy: str = RERUN


@dataclass(frozen=True)
class Result:
    """What one check did: how many things it compared, what it found, what it could not check and why, and details."""

    check: str
    compared: int
    findings: list = field(default_factory=list)
    unchecked: list = field(default_factory=list)
    details: list = field(default_factory=list)

    @property
    def status(self):
        """FAILED with any finding; not checked where something was not, or nothing was compared; else ok."""
        if self.findings:
            return "FAILED"
        return "ok" if self.compared and not self.unchecked else "not checked"


def rows_where(file, frame, bad, columns, problem):
    """A Finding for each row of the frame that is bad (a mask, or True for all), with the values of the columns."""
    bad = np.broadcast_to(np.asarray(bad, bool), len(frame))
    chosen = frame.loc[bad, list(columns)] if bad.any() else frame.head(0)
    return [
        Finding(file, f"row {index}", f"{problem}: " + ", ".join(f"{one} = {row[one]}" for one in columns))
        for index, row in chosen.iterrows()
    ]
