"""Rows of evaluations that were computed in pieces: kept on disk until all are there, and put in one order."""

import hashlib
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from oodcert.errors import InputError
from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import read_evidence, sidecar, write_evidence
from oodcert.paths import LIBRARY
from oodcert.runtime.files import atomic, sha256

ORDER = {  # the columns whose values group the rows of an evaluation, the outermost first; images come last
    "certify_l2": ("sigma", "set"),
    "attack_linf": ("set",),
    "sanity": ("share", "epsilon", "set"),
    "attack_l2": ("sigma", "set", "radius"),
    "certify_id": ("sigma",),
    "attack_id": ("epsilon", "attack"),
    "published": ("quantity", "corrected_flag", "set"),
}


def folder_of(path):
    """Where the pieces of an evidence file, or of a shard of one, are kept until it is written."""
    path = Path(path)
    return path.with_name(f".{path.stem}.pieces")


def cache_key(provenance, device, **what):
    """What a piece rests on, as one SHA-256: its settings, inputs, packages, code, and `what`."""
    record = provenance.record()
    content = {**what, "device": device, "code": code_fingerprint(provenance.settings["networks"])}
    content |= {key: record[key] for key in ("settings", "inputs", "packages")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def code_fingerprint(networks):
    """The SHA-256 of the library's files and of the modules of networks of one's own, though not of what these import.

    networks: part -> entry of the config.
    """
    files = {str(path.relative_to(LIBRARY)): path for path in LIBRARY.rglob("*.py")}
    for spec in networks.values():
        if spec.get("name") == "own":
            module = spec["network"].split(":")[0]
            files[module] = Path(find_spec(module).origin)
    content = json.dumps({name: sha256(files[name]) for name in sorted(files)})
    return hashlib.sha256(content.encode()).hexdigest()


def save_piece(path, rows, mark, **facts):
    """Writes a piece, whole or not at all. facts: numbers that go with it.

    The file is three lines, the last one binary: the SHA-256 of the others, mark and facts as JSON, the rows as
    parquet, which has no checksum of its own for all of its bytes.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), sink)
    content = json.dumps({"mark": mark, **facts}).encode() + b"\n" + sink.getvalue().to_pybytes()
    with atomic(path) as temporary:
        temporary.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def load_piece(path, mark):
    """(rows, facts) of a piece; None where there is no file, or with a line on stderr where it is damaged or of
    another mark."""
    if not path.exists():
        return None
    checksum, _, content = path.read_bytes().partition(b"\n")
    if checksum != hashlib.sha256(content).hexdigest().encode():
        print(f"{path} is damaged: ignored, and computed again.", file=sys.stderr)
        return None
    header, _, table = content.partition(b"\n")
    facts = json.loads(header)
    if facts.pop("mark") != mark:
        print(f"{path} is of other settings, inputs or code: ignored, and computed again.", file=sys.stderr)
        return None
    return pq.read_table(pa.BufferReader(table)).to_pandas(), facts


def ordered(rows, evaluation, sets):
    """The rows of all pieces, concatenated in the order of the pieces, in the order of the evaluation as a whole.

    sets: names, in order. Names of quantities and flags are in the order of their length, then of the alphabet; values
    of the other columns of ORDER, in that in which they first occur.
    """
    ranks = [_ranks(rows[column], sets) for column in ORDER[evaluation]]
    return rows.iloc[np.lexsort(ranks[::-1])].reset_index(drop=True)


def _ranks(column, sets):
    if column.name == "set":
        return column.map({name: rank for rank, name in enumerate(sets)})
    if column.name in ("quantity", "corrected_flag"):
        names = sorted(column.unique(), key=lambda name: (len(name), name))
        return column.map({name: rank for rank, name in enumerate(names)})
    return pd.factorize(column)[0]


def gather(shards, path, evaluation, sets, settings):
    """Writes the evidence of an evaluation from that of all its shards.

    shards: path -> what it should hold (see oodcert.execution.shards.content), in order. settings: those of the evaluation.
    Raises InputError where a shard is damaged, holds something else, is of other settings, or where the inputs,
    packages or code of two differ.
    """
    records, inputs, first = {}, {}, None
    for shard, content in shards.items():
        record = records[shard] = _record(shard)
        first = first or record
        expected = {
            "content": content,
            "settings": json.loads(json.dumps(settings)),
            "inputs": {name: inputs.get(name, checksum) for name, checksum in record["inputs"].items()},
            "packages": first["packages"],
            "code": first.get("code"),
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
        ordered(read_evidence(shards), evaluation, sets),
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


def remove_leftovers(results, evidence):
    """Removes what led to the evidence of a finished run: its pieces, those of its shards, checkpoints of trainings.

    results: the run's folder; evidence: paths in it.
    """
    for path in map(Path, evidence):
        shutil.rmtree(folder_of(path), ignore_errors=True)
        shutil.rmtree(Path(results) / "shards" / path.parent.name / path.stem, ignore_errors=True)
        if path.parent.name == "training":
            (Path(results) / "models" / f"{path.stem}.checkpoint").unlink(missing_ok=True)


def _record(shard):
    try:
        record = json.loads(sidecar(shard).read_text(encoding="utf-8"))
        intact = record["sha256"] == sha256(shard)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{shard} or its sidecar can't be read ({error}): delete both and run again.") from error
    if not intact:
        raise InputError(f"{shard} is not the file that its sidecar names: delete both and run again.")
    return record
