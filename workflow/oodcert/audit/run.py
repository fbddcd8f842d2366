"""A finished run, read once: only files that are byte for byte those of the manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pandas as pd
import pyarrow.parquet as pq

from oodcert.audit.findings import Finding, Result
from oodcert.audit.layout import names_of
from oodcert.config.load import check_config
from oodcert.config.models import Config
from oodcert.errors import InputError
from oodcert.evidence.manifest import LOCAL, NAME, digest, figures_of, located, read_manifest
from oodcert.evidence.store import json_text, read_evidence
from oodcert.reporting.checks import checks_table
from oodcert.reporting.figures import read_examples
from oodcert.runtime.files import sha256

IGNORED = (NAME, "models", "shards", "audit")  # of a run's folder, what no manifest lists
EXAMPLES = "evidence/denoised.npz"
FileKey = tuple[str, str]  # evaluation, and the name of one of its files
Content = TypeVar("Content")


@dataclass(frozen=True)
class Run:
    """A run's folder, manifest and config, and the content of its files."""

    folder: Path
    manifest: Mapping[str, Any]
    config: Config

    def path(self, name: str) -> Path:
        """The path of a file that the manifest names."""
        return located(self.folder, name)

    @cached_property
    def intact(self) -> set[str]:
        """Names of the files that are there with the checksum of the manifest."""
        return {name for name, listed in self.manifest["files"].items() if checksum(self.path(name)) == listed}

    @cached_property
    def frames(self) -> dict[FileKey, pd.DataFrame]:
        """Rows of every intact and readable evidence file, in the order of tables and figures."""
        return self._read("parquet", _rows)

    @cached_property
    def records(self) -> dict[FileKey, Any]:
        """Content of every intact and readable sidecar. It may be any JSON: see oodcert.audit.records."""
        return self._read("json", lambda path: json.loads(path.read_text(encoding="utf-8")))

    @cached_property
    def evidence(self) -> dict[str, Any]:
        """Evaluation -> rows of all its files, and the denoised examples: what tables and figures are made from."""
        groups: dict[str, list[pd.DataFrame]] = {}
        for (evaluation, _), frame in self.frames.items():
            groups.setdefault(evaluation, []).append(frame)
        rows = {evaluation: pd.concat(frames, ignore_index=True) for evaluation, frames in groups.items()}
        return rows | ({"denoised": read_examples(self.path(EXAMPLES))} if EXAMPLES in self.intact else {})

    @cached_property
    def checks(self) -> pd.DataFrame:
        """The comparisons of oodcert.reporting.checks, on the evidence as it is now."""
        return checks_table(self.evidence, self.config)

    def _read(self, kind: str, read: Callable[[Path], Content]) -> dict[FileKey, Content]:
        """What `read` gives for evidence/<evaluation>/<name>.<kind>; without those on which it raises anything."""
        contents = {}
        for name in sorted(self.intact, key=self._place):
            if PurePosixPath(name).match(f"evidence/*/*.{kind}"):
                with suppress(Exception):  # as files of strangers can; they are a finding of check_files
                    contents[_key(name)] = read(self.path(name))
        return contents

    def _place(self, path: str) -> tuple[str, int, str]:
        evaluation, name = _key(path)
        names = names_of(self.config, evaluation)
        return evaluation, names.index(name) if name in names else len(names), name


def open_run(folder: str | Path) -> tuple[Run | None, Result]:
    """The run in a folder, and the Result of checking its manifest.

    Args:
        folder: results/<profile> or results/reference/<profile>.

    Returns:
        The Run, None where the manifest is unusable, and the Result.

    Raises:
        InputError: on a folder without a manifest, or in no folder `results`.
    """
    folder = Path(folder)
    figures_of(folder)
    if not (folder / NAME).is_file():
        raise InputError(f"{folder} is no finished run: it has no {NAME}. Finish it with `snakemake --cores all`.")
    try:
        manifest = read_manifest(folder)
        config = _config(manifest["config"])
    except (InputError, RecursionError) as error:
        return None, Result("manifest", 1, [Finding(NAME, "as a whole", str(error))])
    findings = []
    if manifest["digest"] != digest(manifest):
        problem = f"digest = {manifest['digest']} is not that of the content, {digest(manifest)}"
        findings.append(Finding(NAME, "digest", problem))
    if (folder / NAME).read_text(encoding="utf-8") != json_text(manifest):
        findings.append(Finding(NAME, "as a whole", "it is not written as oodcert writes it"))
    return Run(folder, manifest, config), Result("manifest", 1, findings)


def checksum(path: Path) -> str | None:
    """SHA-256 of a file; None where it is unreadable, or is no file but a device or a pipe, which may never end."""
    try:
        return sha256(path) if path.is_file() else None
    except (OSError, ValueError):
        return None


def _config(recorded: Mapping[str, Any]) -> Config:
    """The config of a manifest, if it is valid.

    A run takes unavailable sets from data.ood. The config is checked with them, for they must be in it.

    Raises:
        InputError: as check_config.
    """
    whole = {**recorded, **LOCAL}
    with suppress(KeyError, TypeError):  # check_config says what is wrong with such a config
        data = recorded["data"]
        whole["data"] = {**data, "ood": [*data["ood"], *data["unavailable"]]}
        return check_config(whole).changed(data={"ood": tuple(data["ood"])})
    return check_config(whole)


def _rows(path: Path) -> pd.DataFrame:
    """The rows of an evidence file, unless it unpacks to more of them than it has bytes: ours have 10 bytes a row."""
    if pq.read_metadata(path).num_rows > path.stat().st_size:
        raise InputError(f"{path} has more rows than bytes.")
    return read_evidence([path])


def _key(path: str) -> FileKey:
    file = PurePosixPath(path)
    return file.parent.name, file.stem
