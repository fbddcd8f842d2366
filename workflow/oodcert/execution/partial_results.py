"""Partial results on disk: rows that were computed before an interruption, each file valid for one cache key."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from oodcert.config.external_weights import user_modules
from oodcert.evidence.provenance import Provenance
from oodcert.paths import LIBRARY
from oodcert.runtime.files import atomic, sha256
from oodcert.runtime.source_files import code_sha256

Facts = dict[str, Any]


def folder_of(path: str | Path) -> Path:
    """Where the partial results of an evidence file, or of a shard of one, are kept until it is written."""
    path = Path(path)
    return path.with_name(f".{path.stem}.partial-results")


def cache_key(provenance: Provenance, device: str, **what: Any) -> str:
    """What a partial result rests on, as one SHA-256: its settings, inputs, packages, code, and `what`."""
    record = provenance.record()
    content = {**what, "device": device, "code": code_fingerprint(provenance.settings.get("networks", {}))}
    content |= {key: record[key] for key in ("settings", "inputs", "packages")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def code_fingerprint(networks: Mapping[str, Mapping[str, Any]]) -> str:
    """The SHA-256 of the library's files, and of the modules of user-supplied networks and what they import.

    Args:
        networks: component -> entry of the config.

    Returns:
        The checksum, in hexadecimal digits.
    """
    files = {str(path.relative_to(LIBRARY)): sha256(path) for path in sorted(LIBRARY.rglob("*.py"))}
    content = json.dumps([files, code_sha256(user_modules(networks))])
    return hashlib.sha256(content.encode()).hexdigest()


def save_partial(path: Path, rows: pd.DataFrame, key: str, **facts: float) -> None:
    """Writes a partial result, whole or not at all.

    The file is three lines, the last one binary: the SHA-256 of the others, key and facts as JSON, and the rows as
    parquet, which has no checksum for all of its bytes.

    Args:
        path: of the file.
        rows: of the evaluation.
        key: the cache key.
        facts: numbers that go with the rows.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), sink)
    content = json.dumps({"key": key, **facts}).encode() + b"\n" + sink.getvalue().to_pybytes()
    with atomic(path) as temporary:
        temporary.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def load_partial(path: Path, key: str) -> tuple[pd.DataFrame, Facts] | None:
    """Rows and facts of a partial result; None if there is no file.

    A file that is damaged, or of another cache key, is ignored with a line on stderr.

    Args:
        path: of its file.
        key: the cache key that it must have.

    Returns:
        (rows, facts), or None.
    """
    if not path.exists():
        return None
    checksum, _, content = path.read_bytes().partition(b"\n")
    if checksum != hashlib.sha256(content).hexdigest().encode():
        print(f"{path} is damaged: ignored, and computed again.", file=sys.stderr)
        return None
    header, _, table = content.partition(b"\n")
    facts = json.loads(header)
    if facts.pop("key") != key:
        print(f"{path} is of other settings, inputs or code: ignored, and computed again.", file=sys.stderr)
        return None
    return pq.read_table(pa.BufferReader(table)).to_pandas(), facts


def remove_leftovers(results: Path, evidence: Iterable[str | Path]) -> None:
    """Removes what led to the evidence of a finished run: partial results, shards, checkpoints of trainings.

    Args:
        results: the run's folder.
        evidence: paths of its evidence files.
    """
    for path in map(Path, evidence):
        shutil.rmtree(folder_of(path), ignore_errors=True)
        shutil.rmtree(results / "shards" / path.parent.name / path.stem, ignore_errors=True)
        if path.parent.name == "training":
            (results / "models" / f"{path.stem}.checkpoint").unlink(missing_ok=True)
