"""Per-sample evidence: one parquet an evaluation and method, and a sidecar that says where it comes from."""

import hashlib
import json
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from oodcert.errors import InputError
from oodcert.paths import LIBRARY
from oodcert.runtime.files import atomic, sha256

PACKAGES = ("oodcert", "torch", "pyautoattack", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow")

NO_CODE = ("results", "figures")


class Provenance:
    """Collects where a result comes from; `record` gives it as a dict for the sidecar.

    settings: the settings that decide the result; inputs: paths it was computed from.
    """

    def __init__(self, settings, inputs=()):
        self.settings, self.inputs, self.started = settings, [Path(path) for path in inputs], time.monotonic()

    def record(self, **extra):
        return {
            "settings": self.settings,
            "settings_sha256": hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest(),
            "inputs": {str(path): sha256(path) for path in self.inputs},
            **code_version(),
            "packages": {"python": platform.python_version(), **_versions()},
            "machine": f"{platform.system()} {platform.machine()}",
            "wall_seconds": round(time.monotonic() - self.started, 2),
            **extra,
        }


def code_version():
    """{"commit", "dirty"} of the library's own checkout; None for both outside a git checkout.

    dirty: whether anything but the committed results and figures differs from the commit.
    """

    def git(*command):
        return subprocess.run(["git", "-C", str(LIBRARY), *command], capture_output=True, text=True, check=True).stdout

    try:
        changed = git("status", "--porcelain", "-uno", "--", ":/", *(f":(top,exclude){one}" for one in NO_CODE))
        return {"commit": git("rev-parse", "HEAD").strip(), "dirty": bool(changed.strip())}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def sidecar(path):
    """The sidecar of an evidence file: the same name with .json."""
    return Path(path).with_suffix(".json")


def write_evidence(frame, path, provenance, **extra):
    """Writes the rows and the sidecar, each whole or not at all. Raises InputError on NaN or on no rows."""
    path = Path(path)
    numbers = frame.select_dtypes("number")
    if frame.empty or numbers.isna().to_numpy().any():
        bad = "no rows" if frame.empty else f"NaN in {', '.join(numbers.columns[numbers.isna().any()])}"
        raise InputError(f"{path} would hold {bad}: refused, since tables are computed from it.")
    with atomic(path) as temporary:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), temporary, compression="zstd")
    record = provenance.record(rows=len(frame), sha256=sha256(path), **extra)
    write_json(record, sidecar(path))


def write_json(record, path):
    """Writes a JSON file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json_text(record))


def json_text(record):
    """The one text of a record in a JSON file."""
    return json.dumps(record, indent=1) + "\n"


def read_evidence(paths):
    """The rows of evidence files, one after another. Raises InputError naming a file that is missing or corrupt."""
    frames = []
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{path} does not exist: compute it first, for example with `snakemake {path}`.")
        try:
            frames.append(pq.read_table(path).to_pandas())
        except Exception as error:  # what pandas makes of the file's metadata may raise anything
            raise InputError(f"{path} is not a readable parquet file ({error}): delete it and run again.") from error
    return pd.concat(frames, ignore_index=True)


def read_evaluations(paths):
    """Evidence by evaluation, from paths <evaluation>/<method>.parquet: dict of DataFrames."""
    groups = {}
    for path in map(Path, paths):
        groups.setdefault(path.parent.name, []).append(path)
    return {evaluation: read_evidence(group) for evaluation, group in groups.items()}


def _versions():
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found
