"""The audit of a finished run: everything it reports, computed again from its evidence. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from oodcert.audit.bounds import check_attacked, check_certificates, check_radii
from oodcert.audit.figures import check_figures
from oodcert.audit.files import check_files
from oodcert.audit.findings import Finding, Result
from oodcert.audit.order import check_inequalities
from oodcert.audit.records import check_code, check_records
from oodcert.audit.rows import check_rows
from oodcert.audit.run import Run, open_run
from oodcert.audit.tables import check_tables
from oodcert.audit.values import check_values
from oodcert.errors import InputError

CHECKS: Mapping[str, Callable[[Run], Result]] = {
    "files": check_files,
    "sidecars": check_records,
    "code": check_code,
    "rows": check_rows,
    "values": check_values,
    "order": check_inequalities,
    "l2 certificates": check_certificates,
    "certified radii": check_radii,
    "l2 attacks": check_attacked,
    "tables": check_tables,
    "figures": check_figures,
}


@dataclass(frozen=True)
class Audit:
    """What all checks of a run report.

    Attributes:
        run: the run, None where its manifest is unusable.
        results: the Result of every check, that of the manifest first.
    """

    run: Run | None
    results: list[Result]

    @property
    def passed(self) -> bool:
        """Whether no check has a finding."""
        return not any(result.findings for result in self.results)


def audit(folder: str | Path, processes: int = 1) -> Audit:
    """Audits a run by all CHECKS. Nothing is written in its folder.

    Args:
        folder: results/<profile> or results/reference/<profile>.
        processes: that share the checks; more than one needs Linux.

    Returns:
        An Audit. Whatever is wrong with the run's files is a finding in it.

    Raises:
        InputError: on a folder that holds no finished run.
    """
    run, manifest = open_run(folder)
    if run is None:
        return Audit(None, [manifest, *(Result(name, 0, [], ["the manifest is unusable"]) for name in CHECKS)])
    check = partial(carried_out, run=run)
    if processes == 1:
        return Audit(run, [manifest, *map(check, CHECKS)])
    with get_context("fork").Pool(processes) as pool:
        return Audit(run, [manifest, *pool.map(check, CHECKS, chunksize=1)])


def carried_out(name: str, run: Run) -> Result:
    """The Result of one of CHECKS. Evidence on which it breaks down is a finding, for the run may hold anything."""
    return guarded(name, CHECKS[name], run)


def guarded(name: str, check: Callable[[Run], Result], run: Run) -> Result:
    """Runs a check of a run. What the check raises becomes a finding.

    Args:
        name: of the check, as the report shows it.
        check: a function of the run.
        run: the run that is audited.

    Returns:
        The check's Result, or one with a single finding if the check raised.
    """
    try:
        return check(run)
    except InputError as error:
        problem = str(error)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    return Result(name, 0, [Finding("evidence", "as a whole", f"the check could not be carried out: {problem}")])
