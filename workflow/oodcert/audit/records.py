"""The sidecars of the evidence: what each says of its settings, its inputs and the code that made it."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from types import UnionType
from typing import Any

from oodcert.audit.findings import Finding, Result
from oodcert.audit.layout import EVIDENCE, inputs_of, names_of, settings_of
from oodcert.audit.run import Run
from oodcert.config.models import Config
from oodcert.evidence.manifest import NAME

NEEDED: dict[str, type | UnionType] = {
    "settings": dict,
    "settings_sha256": str,
    "inputs": dict,
    "commit": str | None,
    "dirty": bool | None,
    "packages": dict,
    "rows": int,
    "sha256": str,
}
COMMIT = re.compile("[0-9a-f]{40}")
CodeVersion = tuple[str | None, bool | None]  # commit, and whether there were changes on top of it


def check_records(run: Run) -> Result:
    """Whether every sidecar fits its evidence file, the config, and all other sidecars."""
    findings, unchecked, compared = [], [], 0
    users: dict[str, dict[str, list[str]]] = {}  # input -> checksum -> sidecars
    for (evaluation, name), record in run.records.items():
        file = f"evidence/{evaluation}/{name}.json"
        malformed = _malformed(record, file)
        findings += malformed
        if malformed:
            continue
        compared += 1
        findings += _other_evidence(record, run, evaluation, name, file)
        if evaluation not in EVIDENCE:
            unchecked.append(f"settings of {file}: the audit knows no evaluation {evaluation!r}")
            findings += _other_seed(record, run.config, file)
        elif name in names_of(run.config, evaluation):  # others are a finding of check_files
            findings += _other_config(record, run.config, evaluation, name, file)
        for path, checksum in record["inputs"].items():
            users.setdefault(path, {}).setdefault(checksum, []).append(file)
    return Result("sidecars", compared, findings + _other_inputs(users), unchecked)


def check_code(run: Run) -> Result:
    """Whether the code that made each file can be looked up: it is that of a commit, without changes on top."""
    made = makers(run)
    unchecked = [
        f"{version_text(*version)} made {len(files)} files, so what made them can't be looked up: {files[0]}, …"
        for version, files in made.items()
        if version[0] is None or version[1]
    ]
    findings = [
        Finding(file, "commit", f"{commit!r} is no commit")
        for (commit, _), files in made.items()
        for file in files
        if commit is not None and not COMMIT.fullmatch(commit)
    ]
    return Result("code", len(run.records) + 1, findings, unchecked)


def makers(run: Run) -> dict[CodeVersion, list[str]]:
    """Code version -> names of the evidence files made by it, and of the manifest, with it tables and figures."""
    made: dict[CodeVersion, list[str]] = {(run.manifest["commit"], run.manifest["dirty"]): [NAME]}
    for (evaluation, name), record in run.records.items():
        if not _malformed(record, ""):
            made.setdefault((record["commit"], record["dirty"]), []).append(f"evidence/{evaluation}/{name}.parquet")
    return made


def version_text(commit: str | None, dirty: bool | None) -> str:
    """A code version as people read it."""
    if commit is None:
        return "code outside a git checkout"
    return f"commit {commit[:12]}" + (" with changes that were not committed" if dirty else "")


def packages(run: Run) -> dict[str, int]:
    """Package and version -> number of evidence files made with it."""
    versions = [
        f"{package} {version}"
        for record in run.records.values()
        if not _malformed(record, "")
        for package, version in record["packages"].items()
        if version
    ]
    return dict(sorted(Counter(versions).items()))


def _malformed(record: Any, file: str) -> list[Finding]:
    """Findings where the content of a sidecar lacks what it NEEDED."""
    if not isinstance(record, dict):
        return [Finding(file, "as a whole", "it is not a JSON object")]
    return [
        Finding(file, key, f"{record.get(key)!r} is no {kind}")
        for key, kind in NEEDED.items()
        if key not in record or not isinstance(record[key], kind)
    ]


def _other_evidence(record: dict[str, Any], run: Run, evaluation: str, name: str, file: str) -> list[Finding]:
    """Findings where a sidecar does not fit its evidence file, or its own settings."""
    expected = {
        "settings_sha256": hashlib.sha256(json.dumps(record["settings"], sort_keys=True).encode()).hexdigest(),
        "sha256": run.manifest["files"].get(f"evidence/{evaluation}/{name}.parquet"),
    }
    if (evaluation, name) in run.frames:
        expected["rows"] = len(run.frames[evaluation, name])
    return [
        Finding(file, key, f"{record[key]} is not that of the settings or rows, {value}")
        for key, value in expected.items()
        if record[key] != value
    ]


def _other_config(record: dict[str, Any], config: Config, evaluation: str, name: str, file: str) -> list[Finding]:
    """Findings where the settings or inputs of a sidecar are not those of the config."""
    settings, inputs = settings_of(config, evaluation, name), inputs_of(config, evaluation, name)
    recorded = record["settings"]
    findings = [
        Finding(file, f"settings.{key}", f"{recorded.get(key)!r}, but by the config {settings.get(key)!r}")
        for key in sorted(settings.keys() | recorded.keys())
        if key not in recorded or key not in settings or recorded[key] != settings[key]
    ]
    if inputs != set(record["inputs"]):
        differing = ", ".join(sorted(inputs ^ set(record["inputs"])))
        findings.append(Finding(file, "inputs", f"they are not those of the config: {differing}"))
    return findings


def _other_seed(record: dict[str, Any], config: Config, file: str) -> list[Finding]:
    seed = record["settings"].get("seed")
    if seed == config.seed:
        return []
    return [Finding(file, "settings.seed", f"{seed}, but by the config {config.seed}")]


def _other_inputs(users: dict[str, dict[str, list[str]]]) -> list[Finding]:
    """Findings where evidence was computed from different files of one name; users: input -> checksum -> sidecars."""
    findings = []
    for path, sidecars in users.items():
        if len(sidecars) > 1:
            rare, files = min(sidecars.items(), key=lambda item: (len(item[1]), item[0]))
            findings.append(
                Finding(
                    files[0],
                    f"inputs.{path}",
                    f"{rare}, but other evidence was computed from a file of that name with another checksum",
                    "run again, so that all evidence is computed from the same weights and images",
                )
            )
    return findings
