"""The tables and the checks, computed again from the evidence and compared byte for byte."""

import csv
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

from oodcert.audit.findings import Finding, Result
from oodcert.audit.layout import tables_of
from oodcert.evidence.manifest import source_checksums
from oodcert.reporting.tables import TABLES, caption, readable, write_table

FROM_PAPER = ("claims", "reported")  # tables that also depend on the SOURCES of the manifest
REMEDY = "write it again from the evidence: delete it and run `snakemake --cores all`"


def check_tables(run):
    """Whether every table, in all its formats, and checks.csv are what the evidence and the config give.

    Those that hold a run against the papers are computed from their claims too: other claims here, nothing is compared.
    """
    compared, findings, unchecked = 0, [], []
    recorded, here = run.manifest["sources"], source_checksums()
    changed = [name for name in here if recorded.get(name) != here[name]]
    with TemporaryDirectory() as folder:
        run.checks.to_csv(Path(folder) / "checks.csv", index=False)
        for name in tables_of(run.config):
            if changed and name in FROM_PAPER:
                unchecked.append(f"tables/{name}: it was made with another {' and '.join(changed)}")
                continue
            frame = TABLES[name](run.evidence, run.config)
            shown = readable(name, frame, run.config)
            write_table(frame, caption(name, run.evidence, run.config), Path(folder) / "tables" / name, shown)
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            name = str(path.relative_to(folder))
            if run.path(name).is_file():  # others are a finding of check_files
                compared += 1
                findings += _differences(name, run.path(name), path)
        made = {str(path.relative_to(folder)) for path in Path(folder).rglob("*")}
    tables = {name for name in run.manifest["files"] if name.startswith("tables/")}
    unknown = (name for name in sorted(tables - made) if not (changed and Path(name).stem in FROM_PAPER))
    unchecked += [f"{name}: the audit knows no table of that name" for name in unknown]
    return Result("tables", compared, findings, unchecked)


def _differences(name, path, recomputed):
    """Findings that name the cells of a csv file, or the lines of another, that are not as recomputed."""
    found, expected = path.read_bytes(), recomputed.read_bytes()
    if found == expected:
        return []
    read = _cells if path.suffix == ".csv" else _lines
    theirs, ours = (read(text.decode("utf-8", "replace")) for text in (found, expected))
    findings = [
        Finding(name, where, f"{theirs.get(where)!r}, but the evidence gives {ours.get(where)!r}", REMEDY)
        for where in [*ours, *(theirs.keys() - ours.keys())]
        if theirs.get(where) != ours.get(where)
    ]
    return findings or [Finding(name, "as a whole", "its bytes differ from those that the evidence gives", REMEDY)]


def _lines(text):
    return {f"line {number}": line for number, line in enumerate(text.split("\n"), 1)}


def _cells(text):
    header, *rows = [*csv.reader(text.splitlines())] or [[]]
    cells = {f"header, column {number}": name for number, name in enumerate(header, 1)}
    for number, row in enumerate(rows, 1):
        for column, value in zip_longest(header, row, fillvalue="?"):
            cells[f"row {number}, column {column}"] = value
    return cells
