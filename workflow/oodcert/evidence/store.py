"""Evidence files: one parquet per evaluation and method, with a row per image, and a sidecar with its provenance."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from oodcert.errors import InputError
from oodcert.evidence.provenance import Provenance
from oodcert.runtime.files import atomic, sha256

Evidence = Mapping[str, pd.DataFrame]  # name of an evaluation -> the rows of all methods


def sidecar(path: str | Path) -> Path:
    """The sidecar of an evidence file: the same name with .json."""
    return Path(path).with_suffix(".json")


def write_evidence(frame: pd.DataFrame, path: str | Path, provenance: Provenance, **extra: Any) -> None:
    """Writes the rows and the sidecar, each whole or not at all.

    Args:
        frame: the rows.
        path: the parquet file.
        provenance: where the rows come from.
        extra: further entries of the sidecar.

    Raises:
        InputError: if there are no rows, or a number is NaN.
    """
    path = Path(path)
    numbers = frame.select_dtypes("number")
    if frame.empty or numbers.isna().to_numpy().any():
        bad = "no rows" if frame.empty else f"NaN in {', '.join(numbers.columns[numbers.isna().any()])}"
        raise InputError(f"{path} would hold {bad}: refused, since tables are computed from it.")
    with atomic(path) as temporary:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), temporary, compression="zstd")
    write_json(provenance.record(rows=len(frame), sha256=sha256(path), **extra), sidecar(path))


def write_json(record: Mapping[str, Any], path: str | Path) -> None:
    """Writes a JSON file, whole or not at all.

    Args:
        record: what the file is to hold, as JSON values.
        path: of the file; its folder is created where missing.
    """
    with atomic(path) as temporary:
        temporary.write_text(json_text(record))


def json_text(record: Mapping[str, Any]) -> str:
    """The one text that a record has in a JSON file."""
    return json.dumps(record, indent=1) + "\n"


def read_evidence(paths: Iterable[str | Path]) -> pd.DataFrame:
    """The rows of evidence files, one file after another.

    Args:
        paths: of parquet files, at least one.

    Returns:
        The rows with a new index from 0.

    Raises:
        InputError: naming a file that is missing or corrupt.
    """
    frames = []
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{path} does not exist: compute it first, for example with `snakemake {path}`.")
        try:
            frames.append(pq.read_table(path).to_pandas())
        except Exception as error:  # what pandas makes of the file's metadata may raise anything
            raise InputError(f"{path} is not a readable parquet file ({error}): delete it and run again.") from error
    return pd.concat(frames, ignore_index=True)


def read_evaluations(paths: Iterable[str | Path]) -> dict[str, pd.DataFrame]:
    """The rows of each evaluation.

    Args:
        paths: evidence files, <evaluation>/<method>.parquet.

    Returns:
        Name of the evaluation -> the rows of its files, in the order of the paths.

    Raises:
        InputError: as read_evidence.
    """
    groups: dict[str, list[Path]] = {}
    for path in map(Path, paths):
        groups.setdefault(path.parent.name, []).append(path)
    return {evaluation: read_evidence(group) for evaluation, group in groups.items()}
