"""The order guaranteed ≥ attacked ≥ clean, per sample and per cell of the tables."""

from __future__ import annotations

from oodcert.audit.findings import Finding, Result
from oodcert.audit.run import Run


def check_inequalities(run: Run) -> Result:
    """Whether every comparison of oodcert.evidence.order_checks holds on the evidence as it is now."""
    checks = run.checks
    failed = checks[(checks["violations"] > 0) | (checks["compared"] == 0)]
    findings = [
        Finding(
            "evidence",
            str(row.check),
            f"{row.violations} of {row.compared} violate it or lack one side (smallest margin {row.slack:.3g})",
        )
        for row in failed.itertuples()
    ]
    return Result("order", int(checks["compared"].sum()), findings)
