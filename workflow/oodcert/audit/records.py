"""The sidecars of the evidence: what each piece says of its settings, its inputs and the code that made it."""

import hashlib
import json
import re
from collections import Counter

from oodcert.audit.findings import Finding, Result
from oodcert.audit.layout import KEYS, inputs_of, names_of, settings_of
from oodcert.evidence.manifest import NAME

NEEDED = {"settings": dict, "settings_sha256": str, "inputs": dict, "commit": str | None, "dirty": bool | None}
NEEDED |= {"packages": dict, "rows": int, "sha256": str}
COMMIT = re.compile("[0-9a-f]{40}")


def check_records(run):
    """Whether every sidecar fits its evidence file, the config, and all other sidecars."""
    findings, unchecked, hashes, compared = [], [], {}, 0
    for (evaluation, name), record in run.records.items():
        file = f"evidence/{evaluation}/{name}.json"
        malformed = _malformed(record, file)
        findings += malformed
        if malformed:
            continue
        compared += 1
        findings += _own(record, run, evaluation, name, file)
        if evaluation not in (*KEYS, "training"):
            unchecked.append(f"settings of {file}: the audit knows no evaluation {evaluation!r}")
            findings += _seed(record, run.config, file)
        elif name in names_of(run.config, evaluation):  # others are a finding of check_files
            findings += _configured(record, run.config, evaluation, name, file)
        for path, checksum in record["inputs"].items():
            hashes.setdefault(path, {}).setdefault(checksum, []).append(file)
    return Result("sidecars", compared, findings + _consistent(hashes), unchecked)


def check_code(run):
    """Whether the code that made each file can be had: from a commit, without changes on top."""
    unchecked = [
        f"{spelled(*version)} made {len(files)} files, so what made them can't be looked up: {files[0]}, …"
        for version, files in makers(run).items()
        if version[0] is None or version[1]
    ]
    findings = [
        Finding(file, "commit", f"{commit!r} is no commit")
        for (commit, _), files in makers(run).items()
        for file in files
        if commit is not None and not COMMIT.fullmatch(commit)
    ]
    return Result("code", len(run.records) + 1, findings, unchecked)


def makers(run):
    """(commit, dirty) -> names of the evidence files made by it, and of the manifest, with it tables and figures."""
    found = {(run.manifest["commit"], run.manifest["dirty"]): [NAME]}
    for (evaluation, name), record in run.records.items():
        if not _malformed(record, ""):
            found.setdefault((record["commit"], record["dirty"]), []).append(f"evidence/{evaluation}/{name}.parquet")
    return found


def spelled(commit, dirty):
    """A code version as people read it."""
    if commit is None:
        return "code outside a git checkout"
    return f"commit {commit[:12]}" + (" with changes that were not committed" if dirty else "")


def packages(run):
    """package version -> number of evidence files made with it."""
    versions = [
        f"{package} {version}"
        for record in run.records.values()
        if not _malformed(record, "")
        for package, version in record["packages"].items()
        if version
    ]
    return dict(sorted(Counter(versions).items()))


def _malformed(record, file):
    if not isinstance(record, dict):
        return [Finding(file, "as a whole", "it is not a JSON object")]
    return [
        Finding(file, key, f"{record.get(key)!r} is no {kind}")
        for key, kind in NEEDED.items()
        if key not in record or not isinstance(record[key], kind)
    ]


def _own(record, run, evaluation, name, file):
    settings = hashlib.sha256(json.dumps(record["settings"], sort_keys=True).encode()).hexdigest()
    expected = {
        "settings_sha256": settings,
        "sha256": run.manifest["files"].get(f"evidence/{evaluation}/{name}.parquet"),
    }
    if (evaluation, name) in run.frames:
        expected["rows"] = len(run.frames[evaluation, name])
    return [
        Finding(file, key, f"{record[key]} is not that of the settings or rows, {value}")
        for key, value in expected.items()
        if record[key] != value
    ]


def _configured(record, config, evaluation, name, file):
    settings, inputs = settings_of(config, evaluation, name), inputs_of(config, evaluation, name)
    found = record["settings"]
    findings = [
        Finding(file, f"settings.{key}", f"{found.get(key)!r}, but by the config {settings.get(key)!r}")
        for key in sorted(settings.keys() | found.keys())
        if key not in found or key not in settings or found[key] != settings[key]
    ]
    if inputs != set(record["inputs"]):
        differing = ", ".join(sorted(inputs ^ set(record["inputs"])))
        findings.append(Finding(file, "inputs", f"they are not those of the config: {differing}"))
    return findings


def _seed(record, config, file):
    found, seed = record["settings"].get("seed"), config["seed"]
    return [] if found == seed else [Finding(file, "settings.seed", f"{found}, but by the config {seed}")]


def _consistent(hashes):
    """Findings where evidence was computed from different files of one name."""
    findings = []
    for path, users in hashes.items():
        if len(users) > 1:
            rare = min(users.items(), key=lambda item: (len(item[1]), item[0]))
            findings.append(
                Finding(
                    rare[1][0],
                    f"inputs.{path}",
                    f"{rare[0]}, but other evidence was computed from a file of that name with another checksum",
                    "run again, so that all evidence is computed from the same weights and images",
                )
            )
    return findings
