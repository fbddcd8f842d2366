"""The tables and the checks, computed again from the evidence and compared byte for byte."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

from oodcert.audit.findings import Finding, Result
from oodcert.audit.layout import tables_of
from oodcert.audit.run import Run
from oodcert.evidence.manifest import source_checksums
from oodcert.reporting.tables import TABLES, caption, readable, write_table

FROM_PAPER = ("claims", "reported")  # tables that also depend on the SOURCES of the manifest
REMEDY = "write it again from the evidence: delete it and run `snakemake --cores all`"


def check_tables(run: Run) -> Result:
    """Whether every table, in all its formats, and checks.csv are what the evidence and the config give.

    Tables that compare a run with the papers are computed from their claims too. If the claims here are others than
    those of the run, these tables are not compared.

    Args:
        run: the run that is audited.

    Returns:
        The Result: the files that were compared, and what differs.
    """
    recorded, here = run.manifest["sources"], source_checksums()
    changed = [name for name in here if recorded.get(name) != here[name]]
    left_out = [name for name in tables_of(run.config) if changed and name in FROM_PAPER]
    unchecked = [f"tables/{name}: it was made with another {' and '.join(changed)}" for name in left_out]
    compared = 0
    findings: list[Finding] = []
    with TemporaryDirectory() as folder:
        _write(run, [name for name in tables_of(run.config) if name not in left_out], Path(folder))
        made = {str(path.relative_to(folder)): path for path in sorted(Path(folder).rglob("*")) if path.is_file()}
        for name, path in made.items():
            if run.path(name).is_file():  # others are a finding of check_files
                compared += 1
                findings += _differences(name, run.path(name), path)
    tables = {name for name in run.manifest["files"] if name.startswith("tables/")}
    unknown = [name for name in sorted(tables - made.keys()) if not (changed and Path(name).stem in FROM_PAPER)]
    unchecked += [f"{name}: the audit knows no table of that name" for name in unknown]
    return Result("tables", compared, findings, unchecked)


def _write(run: Run, names: list[str], folder: Path) -> None:
    """Writes checks.csv and the tables of these names to a folder, as a run does."""
    run.checks.to_csv(folder / "checks.csv", index=False)
    for name in names:
        frame = TABLES[name](run.evidence, run.config)
        shown = readable(name, frame, run.config)
        write_table(frame, caption(name, run.evidence, run.config), folder / "tables" / name, shown)


def _differences(name: str, path: Path, recomputed: Path) -> Iterator[Finding]:
    """Findings that name the cells of a csv file, or the lines of another, that are not as recomputed."""
    recorded, expected = path.read_bytes(), recomputed.read_bytes()
    if recorded == expected:
        return
    read = _cells if path.suffix == ".csv" else _lines
    theirs, ours = (read(content.decode("utf-8", "replace")) for content in (recorded, expected))
    places = [where for where in [*ours, *(theirs.keys() - ours.keys())] if theirs.get(where) != ours.get(where)]
    for where in places:
        problem = f"{theirs.get(where)!r}, but the evidence gives {ours.get(where)!r}"
        yield Finding(name, where, problem, REMEDY)
    if not places:
        yield Finding(name, "as a whole", "its bytes differ from those that the evidence gives", REMEDY)


def _lines(text: str) -> dict[str, str]:
    return {f"line {number}": line for number, line in enumerate(text.split("\n"), 1)}


def _cells(text: str) -> dict[str, str]:
    header, *rows = [*csv.reader(text.splitlines())] or [[]]
    cells = {f"header, column {number}": name for number, name in enumerate(header, 1)}
    for number, row in enumerate(rows, 1):
        for column, value in zip_longest(header, row, fillvalue="?"):
            cells[f"row {number}, column {column}"] = value
    return cells
