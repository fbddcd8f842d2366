"""An audit as people and programs read it: text for the terminal, JSON, and one HTML page that needs nothing else."""

from dataclasses import asdict
from pathlib import Path
from textwrap import wrap

from tabulate import tabulate

from oodcert.audit.records import makers, packages, spelled
from oodcert.runtime.files import atomic

SHOWN = 20  # findings of one check in one file; the number of all is given
LIMITS = """Whoever makes up evidence that agrees with itself, and writes its sidecars, tables, figures and manifest
anew, passes. Against that: the digest, published where it can't be changed or committed to a history that others have;
`oodcert audit --spot-check`, which certifies rows anew from the weights; and running the workflow again, which gives
the same bits. What was evaluated, whether the images are what they are called, and whether a number that is right
supports a claim are not questions of an audit either."""


def summary(audit):
    """The audit as a dict of plain values, as its JSON file has it."""
    findings = [finding for result in audit.results for finding in _shown(result)]
    run = audit.run
    return {
        "passed": audit.passed,
        "summary": _sentence(run),
        "checks": [
            {"check": one.check, "compared": one.compared, "found": len(one.findings), "status": one.status}
            for one in audit.results
        ],
        "not_checked": [f"{one.check}: {reason}" for one in audit.results for reason in one.unchecked],
        "findings": findings,
        "details": [f"{one.check}: {detail}" for one in audit.results for detail in one.details],
        "digest": run.manifest["digest"] if run else None,
        "made_by": [f"{spelled(*one)}: {len(files)} files" for one, files in makers(run).items()] if run else [],
        "packages": [f"{name} ({files})" for name, files in packages(run).items()] if run else [],
        "limits": " ".join(LIMITS.split()),
    }


def text(audit):
    """The audit for a terminal."""
    found = summary(audit)
    rows = [(one["check"], one["compared"], one["found"] or "", one["status"]) for one in found["checks"]]
    parts = [tabulate(rows, ("check", "compared", "findings", "status"))]
    parts += [f"not checked: {reason}" for reason in found["not_checked"]]
    parts += [f"{one['file']}, {one['where']}: {one['problem']}. Remedy: {one['remedy']}." for one in found["findings"]]
    parts += [*found["details"], found["summary"], *(f"made by {one}" for one in found["made_by"])]
    parts += ["", *wrap(f"What an audit can't find: {found['limits']}", 120), "passed" if found["passed"] else "FAILED"]
    return "\n".join([parts[0], "", *parts[1:]])


def write_html(audit, folder, path):
    """Writes the audit of the run in a folder as one HTML page, whole or not at all."""
    from jinja2 import Template

    template = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"), autoescape=True)
    with atomic(path) as temporary:
        temporary.write_text(template.render(run=folder, **summary(audit)), encoding="utf-8")


def _shown(result):
    """At most SHOWN findings of one file each, and how many more there are, as dicts."""
    files = {}
    for finding in result.findings:
        files.setdefault(finding.file, []).append(finding)
    for file, findings in files.items():
        for finding in findings[:SHOWN]:
            yield {"check": result.check, **asdict(finding)}
        if len(findings) > SHOWN:
            more = f"{len(findings) - SHOWN} more findings of this check"
            yield {"check": result.check, "file": file, "where": "…", "problem": more, "remedy": findings[0].remedy}


def _sentence(run):
    if run is None:
        return "The manifest can't be used, so nothing else could be checked."
    rows = sum(len(frame) for frame in run.frames.values())
    return f"{len(run.manifest['files'])} files, {rows} rows of evidence, digest {run.manifest['digest']}."
