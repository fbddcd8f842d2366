"""A finished run as one RO-Crate: a zip that holds its files and says, for machines, what each is and what made it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.model.entity import Entity
from rocrate.rocrate import ROCrate

from oodcert.errors import InputError
from oodcert.evidence.manifest import NAME, Manifest, located, read_manifest
from oodcert.evidence.provenance import PACKAGES
from oodcert.paths import ROOT
from oodcert.reporting.display_names import label
from oodcert.runtime.files import atomic, sha256

SOURCES = ("Snakefile", "workflow/rules/*.smk", "envs/requirements.lock", "LICENSE", "CITATION.cff")
PROFILES = {  # what the crate conforms to, beside RO-Crate itself: see https://w3id.org/ro/wfrun
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
FORMATS = {
    ".parquet": "application/vnd.apache.parquet",
    ".npz": "application/zip",
    ".json": "application/json",
    ".csv": "text/csv",
    ".md": "text/markdown",
    ".tex": "application/x-tex",
    ".pdf": "application/pdf",
    ".png": "image/png",
}
WHAT = {
    ".parquet": "one row per image, read by every table and figure",
    ".json": "settings, inputs, code, packages, wall time and checksum of the evidence beside it",
    ".npz": "example images",
    ".csv": "every value, as fractions",
    ".md": "for people, with its caption",
    ".tex": "for LaTeX, with its caption",
    ".pdf": "vector graphic",
    ".png": "image",
}
README = """# oodcert, profile {name}: a finished run

`results/{name}/evidence` holds one row per image, `results/{name}/tables` and `figures/{name}` what was computed from
them, `results/{name}/manifest.json` the configuration and the checksum of every file. With oodcert installed,

    oodcert audit results/{name}

computes tables and figures again and compares every byte. The digest of the run is

    {digest}

`ro-crate-metadata.json` says the same for machines (RO-Crate 1.1), `ro-crate-preview.html` in a browser.
"""
EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip file's entries, so that equal contents are equal bytes


def write_crate(results: str | Path, path: str | Path) -> None:
    """Writes the zip of a run that has a manifest: RO-Crate 1.1, by the profiles of PROFILES, the same bytes each time.

    In the crate the run lies in results/ and figures/ as it does here.

    Args:
        results: the run's folder.
        path: the zip.

    Raises:
        InputError: if the manifest or one of its files is missing or changed.
    """
    results = Path(results)
    manifest = read_manifest(results)
    crate = ROCrate(version="1.1", gen_preview=True)
    crate.metadata.extra_terms["sha256"] = "https://schema.org/sha256"
    _describe(crate, results, manifest)
    sources = [source for pattern in SOURCES for source in sorted(ROOT.glob(pattern))]
    for source in sources[1:]:
        _add(crate, source, source.relative_to(ROOT), f"{source.name}, as the workflow was when the crate was made")
    _add(crate, results / NAME, f"results/{_name(manifest)}/{NAME}", "Configuration and checksums of the run")
    made = [_add_result(crate, results, manifest, name) for name in manifest["files"]]
    config = json.dumps({**manifest["config"], "data_mirror": None}, indent=1) + "\n"
    crate.add_action(
        crate.mainEntity,
        identifier="#run",
        object=[
            _add_text(crate, "config.json", config, "The configuration of the run, as snakemake --configfile reads it"),
            *_image_sets(crate, results),
        ],
        result=made,
        properties={
            "name": f"The run of {_name(manifest)}",
            "description": "Training, certificates, attacks, tables and figures",
            "agent": {"@id": "#authors"},
        },
    )
    readme = README.format(name=_name(manifest), digest=manifest["digest"])
    _add_text(crate, "README.md", readme, "How to read and check this crate")["about"] = {"@id": "./"}
    crate.root_dataset["mentions"] = {"@id": "#run"}
    _zip(crate, path)


def _describe(crate: ROCrate, results: Path, manifest: Manifest) -> None:
    """The root of the crate, its authors, licence and profiles, and the workflow with what it runs on."""
    crate.name = f"oodcert, profile {_name(manifest)}"
    crate.description = (
        "A finished run of a replication of DISTRO (arXiv 2303.14961): evidence per image, tables and figures of "
        f"certified and adversarially robust out-of-distribution detection. Code: commit {manifest['commit']}. "
        f"Digest of the run: {manifest['digest']}."
    )
    crate.datePublished = _date(results, manifest)
    authors = {"@type": "Organization", "name": "The oodcert authors"}
    licence = {"@type": "CreativeWork", "name": "MIT License", "identifier": "MIT"}
    crate.root_dataset["author"] = crate.add(ContextEntity(crate, "#authors", authors))
    crate.root_dataset["publisher"] = {"@id": "#authors"}
    crate.license = crate.add(ContextEntity(crate, "https://spdx.org/licenses/MIT", licence))
    for url, name in PROFILES.items():
        profile = {"@type": "CreativeWork", "name": name, "version": url.rsplit("/", 1)[1]}
        crate.root_dataset.append_to("conformsTo", crate.add(ContextEntity(crate, url, profile)))
    workflow = crate.add_workflow(
        ROOT / "Snakefile",
        "Snakefile",
        main=True,
        lang="snakemake",
        lang_version=version("snakemake"),
        properties={
            "name": "oodcert",
            "version": str(manifest["commit"]),
            "description": "From image sets to the tables and figures of certified and attacked OOD detection",
            "author": {"@id": "#authors"},
            "license": {"@id": "https://spdx.org/licenses/MIT"},
            "encodingFormat": "text/plain",
            "conformsTo": {"@id": "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"},
            **_identity(ROOT / "Snakefile"),
        },
    )
    workflow["softwareRequirements"] = [
        crate.add(ContextEntity(crate, url, {"@type": "SoftwareApplication", "url": url, **package}))
        for url, package in _packages(results).items()
    ]


def _add(crate: ROCrate, source: Path, name: str | Path, description: str) -> Entity:
    form = FORMATS.get(source.suffix, "text/plain")
    known = {"name": source.name, "description": description, "encodingFormat": form, **_identity(source)}
    return crate.add_file(source, str(name), properties=known)


def _add_result(crate: ROCrate, results: Path, manifest: Manifest, name: str) -> Entity:
    source, folder = located(results, name), Path(name).parts[0]
    if not source.is_file() or sha256(source) != manifest["files"][name]:
        raise InputError(f"{source} is missing or differs from {results / NAME}: finish the run, or restore the file.")
    profile = _name(manifest)
    packed = f"figures/{profile}/{source.name}" if folder == "figures" else f"results/{profile}/{name}"
    return _add(crate, source, packed, _description(name))


def _description(name: str) -> str:
    path = Path(name)
    what = WHAT.get(path.suffix, "file of the run")
    if path.parts[0] == "evidence" and len(path.parts) == 3:
        return f"Evidence {path.parts[1]} of {label(path.stem)}: {what}"
    kind = {"tables": "Table", "figures": "Figure", "evidence": "Evidence"}.get(path.parts[0], "File")
    return f"{kind} {path.stem}: {what}"


def _add_text(crate: ROCrate, name: str, text: str, description: str) -> Entity:
    known = {"name": name, "description": description, "encodingFormat": FORMATS[Path(name).suffix]}
    known |= {"sha256": hashlib.sha256(text.encode()).hexdigest(), "contentSize": str(len(text.encode()))}
    return crate.add_file(StringIO(text), name, properties=known)


def _image_sets(crate: ROCrate, results: Path) -> list[Entity]:
    """The image sets that the run read, which are not in the crate: names and checksums from the sidecars."""
    hashes: dict[str, str] = {}
    for record in _records(results):
        hashes |= {path: digest for path, digest in record["inputs"].items() if path.startswith("data/")}
    return [
        crate.add(ContextEntity(crate, f"#{path}", {"@type": "CreativeWork", "name": path, "sha256": digest}))
        for path, digest in sorted(hashes.items())
    ]


def _packages(results: Path) -> dict[str, dict[str, str]]:
    """Address -> name and version of the packages that made the evidence, as the sidecars record them."""
    packages = {}
    for record in _records(results):
        for name in PACKAGES:
            number = record["packages"].get(name)
            if number and name != "oodcert":
                packages[f"https://pypi.org/project/{name}/{number}/"] = {"name": name, "softwareVersion": number}
    return packages


def _records(results: Path) -> Iterator[dict[str, Any]]:
    """The sidecars of the run."""
    return (json.loads(path.read_text()) for path in sorted((results / "evidence").glob("*/*.json")))


def _identity(path: Path) -> dict[str, str]:
    return {"sha256": sha256(path), "contentSize": str(path.stat().st_size)}


def _name(manifest: Manifest) -> str:
    """The run's profile."""
    return manifest["config"]["profile"]


def _date(results: Path, manifest: Manifest) -> str:
    """The day of the run's commit; if git does not know the commit, the day on which the manifest was written."""
    command = ["git", "-C", str(ROOT), "show", "--no-patch", "--format=%cs", str(manifest["commit"])]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return datetime.fromtimestamp((results / NAME).stat().st_mtime, UTC).date().isoformat()


def _zip(crate: ROCrate, path: str | Path) -> None:
    with tempfile.TemporaryDirectory() as folder, atomic(path) as temporary:
        crate.write(folder)
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(one for one in Path(folder).rglob("*") if one.is_file()):
                entry = zipfile.ZipInfo(str(file.relative_to(folder)), EARLIEST)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(entry, file.read_bytes())
