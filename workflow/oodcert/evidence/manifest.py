"""The manifest of a finished run: its configuration, and the checksum of every file that it made."""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from oodcert.errors import InputError
from oodcert.evidence.store import code_version, write_json
from oodcert.paths import ROOT
from oodcert.runtime.files import sha256

NAME = "manifest.json"
DRAWING = ("matplotlib", "seaborn", "pillow", "pandas", "numpy")  # on whose versions the bytes of figures depend
HASH, NAMES = "^[0-9a-f]{64}$", r"^[^./\\][^/\\]*(/[^./\\][^/\\]*)*$"  # relative paths that lead nowhere else
FORM = {
    "type": "object",
    "required": ["config", "commit", "dirty", "packages", "sources", "files", "digest"],
    "properties": {
        "config": {"type": "object"},
        "commit": {"type": ["string", "null"]},
        "dirty": {"type": ["boolean", "null"]},
        "packages": {"type": "object", "additionalProperties": {"type": "string"}},
        "sources": {"type": "object", "additionalProperties": {"type": "string", "pattern": HASH}},
        "files": {
            "type": "object",
            "propertyNames": {"pattern": NAMES},
            "additionalProperties": {"type": "string", "pattern": HASH},
        },
        "digest": {"type": "string", "pattern": HASH},
    },
    "additionalProperties": False,
}
SOURCES = ("paper/claims.yaml", "paper/reported.csv")  # of the repository, from which tables are made beside evidence
LOCAL = {  # settings that say nothing of what was computed, but where files lay, how the work was split and watched
    "data_mirror": None,
    "shards": 1,
    "chunk": 1,
    "jobs_per_gpu": 1,
    "profile_trace": False,
}


def root_of(results):
    """The folder that a run's folder results/… lies in. Raises InputError on a path without a folder `results`."""
    parts = Path(results).parts
    if "results" not in parts:
        raise InputError(f"{results} is not a run's folder: give results/<profile> or results/reference/<profile>.")
    return Path(*parts[: len(parts) - 1 - parts[::-1].index("results")])


def figures_of(results):
    """The folder of a run's figures: results/digits has figures/digits, results/reference/digits likewise.

    Raises InputError as root_of does.
    """
    root = root_of(results)
    return root / "figures" / Path(*Path(results).parts[len(root.parts) + 1 :])


def located(results, name):
    """The path of a file that a manifest names: relative to the run's folder, but for those of figures/."""
    inside = Path(name)
    return figures_of(results) / inside.relative_to("figures") if inside.parts[0] == "figures" else results / inside


def write_manifest(results, config, paths):
    """Writes <results>/manifest.json: config, code, packages, sources, and files, name -> SHA-256, of the paths.

    paths: files of the run's folder and of its folder of figures. `digest` is the SHA-256 of all else in the manifest:
    who publishes that one line has fixed every byte of the run.
    """
    results, figures = Path(results), figures_of(results)
    names = {
        str("figures" / path.relative_to(figures) if path.is_relative_to(figures) else path.relative_to(results)): path
        for path in map(Path, paths)
    }
    manifest = {
        "config": {key: value for key, value in config.items() if key not in LOCAL},
        **code_version(),
        "packages": drawing_packages(),
        "sources": source_checksums(),
        "files": {name: sha256(names[name]) for name in sorted(names)},
    }
    write_json(manifest | {"digest": digest(manifest)}, results / NAME)


def drawing_packages():
    """What the bytes of a figure depend on, beside evidence and config: name -> version."""
    return {"machine": platform.machine(), **{package: version(package) for package in DRAWING}}


def source_checksums():
    """The SHA-256 of the SOURCES as they are here."""
    return {name: sha256(ROOT / name) for name in SOURCES}


def digest(manifest):
    """The SHA-256 of a manifest without its own `digest`."""
    content = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(results):
    """The manifest of a run. Raises InputError where there is none, or where it is not JSON of that form."""
    path = Path(results) / NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        fault = best_match(Draft202012Validator(FORM).iter_errors(manifest))
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist, so nothing says what belongs to this run: finish it with `snakemake --cores all`."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): it was changed after the run.") from error
    if fault is not None:
        raise InputError(f"{path} is no manifest ({fault.message}): it was changed after the run.")
    return manifest
