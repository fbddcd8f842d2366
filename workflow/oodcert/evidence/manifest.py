"""The manifest of a finished run: its configuration, and the checksum of every file that it made."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from oodcert.config.models import Config
from oodcert.errors import InputError
from oodcert.evidence.provenance import code_version
from oodcert.evidence.store import write_json
from oodcert.paths import ROOT
from oodcert.runtime.files import sha256

NAME = "manifest.json"
DRAWING = ("matplotlib", "seaborn", "pillow", "pandas", "numpy")  # packages on whose versions a figure's bytes depend
SOURCES = ("paper/claims.yaml", "paper/reported.csv")  # files of the repository that tables depend on, beside evidence
LOCAL: Mapping[str, int | None] = {  # settings that change no result (files' place, jobs, traces), and their defaults
    "data_mirror": None,
    "shards": 1,
    "chunk": 1,
    "jobs_per_gpu": 1,
    "profile_trace": False,
}

Hash = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[^./\\][^/\\]*(/[^./\\][^/\\]*)*$")]  # leads to no other folder


@with_config(ConfigDict(extra="forbid", strict=True))
class Manifest(TypedDict):
    """What manifest.json holds."""

    config: dict[str, Any]
    """The configuration as plain values, without the settings of LOCAL."""
    commit: str | None
    """The commit of the code; None outside a git checkout."""
    dirty: bool | None
    """Whether tracked files differed from the commit."""
    packages: dict[str, str]
    """Versions of the packages that draw, and the machine."""
    sources: dict[str, Hash]
    """SHA-256 of each of SOURCES."""
    files: dict[FileName, Hash]
    """SHA-256 of each file, relative to the run's folder; figures/... stands for its folder of figures."""
    digest: Hash
    """SHA-256 of all else in the manifest."""


FORM: TypeAdapter[Manifest] = TypeAdapter(Manifest)


def root_of(results: str | Path) -> Path:
    """The folder that holds the folder results/ of a run.

    Args:
        results: the folder of the run, such as results/digits.

    Returns:
        The folder above results/.

    Raises:
        InputError: if the path has no folder `results`.
    """
    parts = Path(results).parts
    if "results" not in parts:
        raise InputError(f"{results} is not a run's folder: give results/<profile> or results/reference/<profile>.")
    return Path(*parts[: len(parts) - 1 - parts[::-1].index("results")])


def figures_of(results: str | Path) -> Path:
    """The folder of a run's figures: figures/digits for results/digits, figures/reference/digits likewise.

    Args:
        results: the folder of the run, such as results/digits.

    Returns:
        The folder, whether or not it exists.

    Raises:
        InputError: as root_of.
    """
    root = root_of(results)
    return root / "figures" / Path(*Path(results).parts[len(root.parts) + 1 :])


def located(results: Path, name: str) -> Path:
    """The path of a file that the manifest of the run in `results` names.

    Args:
        results: the folder of the run.
        name: of the file in the manifest: below the folder, or figures/….

    Returns:
        The path.
    """
    relative = Path(name)
    return figures_of(results) / relative.relative_to("figures") if relative.parts[0] == "figures" else results / name


def write_manifest(results: str | Path, config: Config, paths: Iterable[str | Path]) -> None:
    """Writes <results>/manifest.json. Whoever publishes its digest has fixed every byte of the run.

    Args:
        results: the run's folder.
        config: its configuration.
        paths: all files of the run's folder and of its folder of figures, but for the manifest.
    """
    results, figures = Path(results), figures_of(results)
    names = {
        str("figures" / path.relative_to(figures) if path.is_relative_to(figures) else path.relative_to(results)): path
        for path in map(Path, paths)
    }
    manifest = {
        "config": {key: value for key, value in config.as_json().items() if key not in LOCAL},
        **code_version(),
        "packages": drawing_packages(),
        "sources": source_checksums(),
        "files": {name: sha256(names[name]) for name in sorted(names)},
    }
    write_json(manifest | {"digest": digest(manifest)}, results / NAME)


def drawing_packages() -> dict[str, str]:
    """What a figure's bytes depend on beside evidence and config: the machine, and the version of each of DRAWING."""
    return {"machine": platform.machine(), **{package: version(package) for package in DRAWING}}


def source_checksums() -> dict[str, str]:
    """The SHA-256 of each of SOURCES, as it is here."""
    return {name: sha256(ROOT / name) for name in SOURCES}


def digest(manifest: Mapping[str, Any]) -> str:
    """The SHA-256 of a manifest without its own `digest`."""
    content = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(results: str | Path) -> Manifest:
    """The manifest of a run, as plain dicts. Its config is not checked.

    Args:
        results: the folder of the run.

    Returns:
        The manifest; whether its files have the listed checksums is not checked.

    Raises:
        InputError: if there is no manifest, or the file is not JSON of that form.
    """
    path = Path(results) / NAME
    try:
        manifest: Manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist, so nothing says what belongs to this run: finish it with `snakemake --cores all`."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): it was changed after the run.") from error
    try:
        FORM.validate_python(manifest)
    except (ValidationError, RecursionError) as error:
        raise InputError(f"{path} is no manifest ({_fault(error)}): it was changed after the run.") from None
    return manifest


def _fault(error: Exception) -> str:
    """The first fault that pydantic names, on one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]
