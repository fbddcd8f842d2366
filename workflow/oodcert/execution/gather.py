"""The evidence of an evaluation, put together from that of its shards. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oodcert.errors import InputError
from oodcert.evaluations.row_order import ordered
from oodcert.evaluations.spec import EvaluationSpec
from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import read_evidence, sidecar, write_evidence
from oodcert.runtime.files import sha256


def gather(
    shards: Mapping[str, dict[str, dict[str, list[int]]]],
    path: str | Path,
    spec: EvaluationSpec,
    sets: Sequence[str],
    settings: Mapping[str, Any],
) -> None:
    """Writes the evidence of an evaluation from that of all its shards.

    Args:
        shards: path -> what it should hold (see oodcert.execution.shards.content), in order.
        path: of the evidence file.
        spec: of the evaluation.
        sets: names of all image sets, in order.
        settings: of the evaluation, as JSON has them.

    Raises:
        InputError: if a shard is damaged, holds something else or is of other settings, or if the inputs, packages or
            code of two shards differ.
    """
    records: dict[str, dict[str, Any]] = {}
    inputs: dict[str, str] = {}
    for shard, content in shards.items():
        record = records[shard] = _record(shard)
        first = next(iter(records.values()))
        expected = {
            "content": content,
            "settings": json.loads(json.dumps(settings)),
            "inputs": {name: inputs.get(name, checksum) for name, checksum in record["inputs"].items()},
            "packages": first["packages"],
            "code": first["code"],
        }
        for key, value in expected.items():
            if record.get(key) != value:
                raise InputError(
                    f"{shard} has other {key} than this run or the shards before it: delete {Path(shard).parent} and "
                    "run again."
                )
        inputs |= record["inputs"]
    versions = {(record["commit"], record["dirty"]) for record in records.values()}
    commit, dirty = versions.pop() if len(versions) == 1 else (None, None)
    write_evidence(
        ordered(read_evidence(shards), spec.order, sets),
        path,
        Provenance(first["settings"]),
        inputs=inputs,
        commit=commit,
        dirty=dirty,
        packages=first["packages"],
        device=", ".join(sorted({record["device"] for record in records.values()})),
        wall_seconds=round(sum(record["wall_seconds"] for record in records.values()), 2),
        network_calls=sum(record["network_calls"] for record in records.values()),
    )


def _record(shard: str) -> dict[str, Any]:
    """The sidecar of a shard, which is intact."""
    try:
        record: dict[str, Any] = json.loads(sidecar(shard).read_text(encoding="utf-8"))
        intact = record["sha256"] == sha256(shard)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{shard} or its sidecar can't be read ({error}): delete both and run again.") from error
    if not intact:
        raise InputError(f"{shard} is not the file that its sidecar names: delete both and run again.")
    return record
