"""An audit as people and programs read it: text for the terminal, JSON, and one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from oodcert.audit.findings import Finding, Result
from oodcert.audit.records import makers, packages, version_text
from oodcert.audit.run import Run
from oodcert.errors import InputError
from oodcert.evidence.store import write_json
from oodcert.runtime.files import atomic

if TYPE_CHECKING:
    from oodcert.audit import Audit

SHOWN = 20  # findings of one check in one file; the number of all is given
LIMITS = """Whoever makes up evidence that agrees with itself, and writes its sidecars, tables, figures and manifest
anew, passes. Three things help against that. The digest: publish it where it can't be changed, or commit it to a
history that others have. `oodcert audit --spot-check`: it certifies rows anew from the weights. Running the workflow
again: it gives the same bits. An audit does not ask what was evaluated either, nor whether the images are what they are
called, nor whether a number that is right supports a claim."""


def summary(audit: Audit) -> dict[str, Any]:
    """The audit as a dict of plain values, as its JSON file has it."""
    findings = [finding for result in audit.results for finding in _shown(result)]
    run = audit.run
    return {
        "passed": audit.passed,
        "summary": _sentence(run),
        "checks": [
            {"check": one.check, "compared": one.compared, "findings": len(one.findings), "status": one.status}
            for one in audit.results
        ],
        "not_checked": [f"{one.check}: {reason}" for one in audit.results for reason in one.unchecked],
        "findings": findings,
        "details": [f"{one.check}: {detail}" for one in audit.results for detail in one.details],
        "digest": run.manifest["digest"] if run else None,
        "made_by": [f"{version_text(*one)}: {len(files)} files" for one, files in makers(run).items()] if run else [],
        "packages": [f"{name} ({files})" for name, files in packages(run).items()] if run else [],
        "limits": " ".join(LIMITS.split()),
    }


def text(audit: Audit) -> str:
    """The audit for a terminal."""
    facts = summary(audit)
    rows = [(one["check"], one["compared"], one["findings"] or "", one["status"]) for one in facts["checks"]]
    lines = [tabulate(rows, ("check", "compared", "findings", "status")), ""]
    lines += [f"not checked: {reason}" for reason in facts["not_checked"]]
    lines += [f"{one['file']}, {one['where']}: {one['problem']}. Remedy: {one['remedy']}." for one in facts["findings"]]
    lines += [*facts["details"], facts["summary"], *(f"made by {one}" for one in facts["made_by"])]
    lines += ["", *wrap(f"What an audit can't find: {facts['limits']}", 120)]
    return "\n".join([*lines, "passed" if facts["passed"] else "FAILED"])


def write_report(audited: Audit, folder: str | Path, json: str | None = None, html: str | None = None) -> None:
    """Writes an audit as JSON and HTML where asked to.

    Args:
        audited: the audit.
        folder: of the run.
        json: path of the JSON file; None: it is not written.
        html: path of the HTML page; None: it is not written.

    Raises:
        InputError: if anything is wrong with the run.
    """
    if json:
        write_json(summary(audited), Path(json))
    if html:
        write_html(audited, folder, Path(html))
    failed = [result.check for result in audited.results if result.findings]
    if failed:
        count = sum(len(result.findings) for result in audited.results)
        raise InputError(
            f"The audit of {folder} failed: {count} findings in {', '.join(failed)}. `oodcert audit {folder}` lists "
            "them with their remedies."
        )


def write_html(audit: Audit, folder: str | Path, path: Path) -> None:
    """Writes the audit of the run in a folder as one HTML page, whole or not at all.

    Args:
        audit: what was audited.
        folder: of the run, as the page names it.
        path: of the page.
    """
    from jinja2 import Template

    template = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"), autoescape=True)
    with atomic(path) as temporary:
        temporary.write_text(template.render(run=folder, **summary(audit)), encoding="utf-8")


def _shown(result: Result) -> Iterator[dict[str, str]]:
    """At most SHOWN findings of one file each, and how many more there are, as dicts."""
    files: dict[str, list[Finding]] = {}
    for finding in result.findings:
        files.setdefault(finding.file, []).append(finding)
    for file, findings in files.items():
        for finding in findings[:SHOWN]:
            yield {"check": result.check, **asdict(finding)}
        if len(findings) > SHOWN:
            more = f"{len(findings) - SHOWN} more findings of this check"
            yield {"check": result.check, "file": file, "where": "…", "problem": more, "remedy": findings[0].remedy}


def _sentence(run: Run | None) -> str:
    if run is None:
        return "The manifest is unusable, so nothing else could be checked."
    rows = sum(len(frame) for frame in run.frames.values())
    return f"{len(run.manifest['files'])} files, {rows} rows of evidence, digest {run.manifest['digest']}."
