"""The files of a run: none missing, none changed, none that is not listed."""

from __future__ import annotations

from pathlib import PurePosixPath

from oodcert.audit.findings import Finding, Result
from oodcert.audit.layout import EVIDENCE, files_of
from oodcert.audit.run import IGNORED, Run, checksum
from oodcert.evidence.manifest import figures_of


def check_files(run: Run) -> Result:
    """Whether the run holds exactly the files of its manifest, byte for byte, and all that its config asks for."""
    listed, expected = run.manifest["files"], set(files_of(run.config))
    findings = [_changed(run, name) for name in sorted(listed.keys() - run.intact)]
    for name in sorted(expected - listed.keys()):
        findings.append(Finding("manifest.json", name, "the config asks for this file, the manifest does not list it"))
    for name in sorted(listed.keys() - expected):
        if name.startswith(tuple(f"evidence/{folder}/" for folder in EVIDENCE)):
            findings.append(Finding(name, "as a whole", "by the config there is no such evidence", "take it away"))
    for contents, kind in ((run.frames, "parquet"), (run.records, "json")):
        for name in sorted(run.intact - {f"evidence/{'/'.join(key)}.{kind}" for key in contents}):
            if PurePosixPath(name).match(f"evidence/*/*.{kind}"):
                findings.append(Finding(name, "as a whole", f"it is not a readable {kind} file"))
    for name in sorted(_present(run) - listed.keys()):
        findings.append(Finding(name, "as a whole", "the manifest does not list this file", "take it away"))
    return Result("files", len(listed), findings)


def _changed(run: Run, name: str) -> Finding:
    present = checksum(run.path(name))
    if present is None:
        return Finding(name, "as a whole", "the manifest lists this file, it is not there or can't be read")
    return Finding(name, "as a whole", f"its SHA-256 is {present}, the manifest's {run.manifest['files'][name]}")


def _present(run: Run) -> set[str]:
    """Names of all files in the run's folder and that of its figures."""
    figures = figures_of(run.folder)
    names = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if not path.is_dir()}
    names |= {f"figures/{path.relative_to(figures)}" for path in figures.rglob("*") if not path.is_dir()}
    return {name for name in names if name.split("/")[0] not in IGNORED and ".partial-results/" not in name}
