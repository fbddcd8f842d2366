"""The figures, drawn again from the evidence and compared byte for byte."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from oodcert.audit.findings import Finding, Result
from oodcert.audit.run import Run
from oodcert.audit.tables import REMEDY
from oodcert.evidence.manifest import drawing_packages
from oodcert.reporting.figures import FIGURES, save


def check_figures(run: Run) -> Result:
    """Whether every figure is the one that the evidence and the config give, where the same packages draw it.

    With other versions of the packages, or on another kind of machine, the same drawing has other bytes. Then nothing
    is compared here. The data that a figure shows are checked with the evidence in any case, and its bytes with the
    files.

    Args:
        run: the run that is audited.

    Returns:
        The Result: the figures that were compared, and a finding for each that differs.
    """
    drawn, here = run.manifest["packages"], drawing_packages()
    differing = [f"{name} {drawn.get(name)}, here {here[name]}" for name in here if drawn.get(name) != here[name]]
    names = sorted(name for name in run.manifest["files"] if name.startswith("figures/") and run.path(name).is_file())
    known = [name for name in names if Path(name).stem in FIGURES]
    unchecked = [f"{name}: the audit knows no figure of that name" for name in names if name not in known]
    if differing:
        return Result("figures", 0, [], [*unchecked, f"all others: they were drawn with {'; '.join(differing)}"])
    findings = []
    with TemporaryDirectory() as folder:
        for stem in sorted({Path(name).stem for name in known}):
            save(FIGURES[stem](run.evidence, run.config), Path(folder) / stem, run.config.figures.dpi)
        for name in known:
            if run.path(name).read_bytes() != (Path(folder) / Path(name).name).read_bytes():
                findings.append(Finding(name, "as a whole", "the evidence gives another picture", REMEDY))
    return Result("figures", len(known), findings, unchecked)
