"""A finished run, read once: only files that are byte for byte those of the manifest."""

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import pandas as pd
import pyarrow.parquet as pq

from oodcert.audit.findings import Finding, Result
from oodcert.audit.layout import names_of
from oodcert.config.load import check_config
from oodcert.errors import InputError
from oodcert.evidence.manifest import LOCAL, NAME, digest, figures_of, located, read_manifest
from oodcert.evidence.order_checks import check_order
from oodcert.evidence.store import json_text, read_evidence
from oodcert.reporting.figures import read_examples
from oodcert.runtime.files import sha256

IGNORED = (NAME, "models", "shards", "audit")  # of a run's folder, what no manifest lists


@dataclass(frozen=True)
class Run:
    """A run's folder, manifest and config, and what its files hold."""

    folder: Path
    manifest: dict
    config: dict

    def path(self, name):
        return located(self.folder, name)

    @cached_property
    def intact(self):
        """Names of the files that are there with the checksum of the manifest."""
        return {name for name, listed in self.manifest["files"].items() if checksum(self.path(name)) == listed}

    @cached_property
    def frames(self):
        """(evaluation, name) -> rows of every intact and readable evidence file, in the order of tables and figures."""
        return self._read("parquet", _rows)

    @cached_property
    def records(self):
        """(evaluation, name) -> content of every intact and readable sidecar."""
        return self._read("json", lambda path: json.loads(path.read_text(encoding="utf-8")))

    @cached_property
    def evidence(self):
        """Evaluation -> rows of all its files, and the denoised examples: what tables and figures are made from."""
        groups = {}
        for (evaluation, _), frame in self.frames.items():
            groups.setdefault(evaluation, []).append(frame)
        found = {evaluation: pd.concat(frames, ignore_index=True) for evaluation, frames in groups.items()}
        examples = "evidence/denoised.npz"
        return found | ({"denoised": read_examples(self.path(examples))} if examples in self.intact else {})

    @cached_property
    def checks(self):
        """The comparisons of oodcert.evidence.order_checks, on the evidence as it is now."""
        return check_order(self.evidence)

    def _read(self, kind, read):
        """What `read` gives for evidence/<evaluation>/<name>.<kind>; without those on which it raises anything."""
        found = {}
        for name in sorted(self.intact, key=self._place):
            if PurePosixPath(name).match(f"evidence/*/*.{kind}"):
                with suppress(Exception):  # as files of strangers can; they are a finding of check_files
                    found[_key(name)] = read(self.path(name))
        return found

    def _place(self, name):
        evaluation, one = _key(name)
        names = names_of(self.config, evaluation)
        return evaluation, names.index(one) if one in names else len(names), one


def _rows(path):
    """The rows of an evidence file, unless it unpacks to more of them than it has bytes: ours have 10 bytes a row."""
    if pq.read_metadata(path).num_rows > path.stat().st_size:
        raise InputError(f"{path} has more rows than bytes.")
    return read_evidence([path])


def _key(name):
    path = PurePosixPath(name)
    return path.parent.name, path.stem


def open_run(folder):
    """(Run, Result): what the manifest itself says; the Run is None where it can't be used.

    Raises InputError on a folder without a manifest, or outside a folder `results`.
    """
    folder = Path(folder)
    figures_of(folder)
    if not (folder / NAME).is_file():
        raise InputError(f"{folder} is no finished run: it has no {NAME}. Finish it with `snakemake --cores all`.")
    try:
        manifest = read_manifest(folder)
        config = _checked(manifest["config"])
    except (InputError, RecursionError) as error:
        return None, Result("manifest", 1, [Finding(NAME, "as a whole", str(error))])
    findings = []
    if manifest["digest"] != digest(manifest):
        problem = f"digest = {manifest['digest']} is not that of the content, {digest(manifest)}"
        findings.append(Finding(NAME, "digest", problem))
    if (folder / NAME).read_text(encoding="utf-8") != json_text(manifest):
        findings.append(Finding(NAME, "as a whole", "it is not written as oodcert writes it"))
    return Run(folder, manifest, config), Result("manifest", 1, findings)


def _checked(config):
    """The config of a manifest, if it is valid: one in which sets that can't be had are no longer among data.ood."""
    whole = config | LOCAL
    with suppress(KeyError, TypeError):  # check_config says what is wrong with such a config
        whole |= {"data": config["data"] | {"ood": [*config["data"]["ood"], *config["data"]["unavailable"]]}}
    check_config(whole)
    return config


def checksum(path):
    """SHA-256 of a file; None where it can't be read, or is no file but a device or a pipe, which may never end."""
    try:
        return sha256(path) if path.is_file() else None
    except (OSError, ValueError):
        return None
