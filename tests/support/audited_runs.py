"""A small finished run for the tests of the audit, of real evidence of three methods, and functions that forge it."""

import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd

from conftest import ROOT, read_config
from oodcert.audit import open_run
from oodcert.audit.layout import EVIDENCE, names_of, settings_of
from oodcert.config.load import check_config
from oodcert.evidence.manifest import LOCAL, NAME, digest, figures_of, write_manifest
from oodcert.evidence.store import write_json
from oodcert.reporting.figures import FIGURES, save
from oodcert.reporting.tables import TABLES, caption, readable, write_table
from oodcert.runtime.files import sha256

METHODS = ("plain", "vos", "distro")  # a probability, a score without a range, and a randomised joint network
REFERENCE = ROOT / "results" / "reference" / "digits" / "evidence"


def make_run(folder):
    """results/digits of METHODS in a folder, from the committed evidence; tables, figures and manifest anew."""
    results = Path(folder) / "results" / "digits"
    config = check_config(read_config())
    config = config.changed(methods={name: config.methods[name] for name in METHODS}, figures={"dpi": 40})
    (results / "evidence").mkdir(parents=True)
    shutil.copy(REFERENCE / "denoised.npz", results / "evidence")
    for evaluation in EVIDENCE:
        (results / "evidence" / evaluation).mkdir()
        for name in names_of(config, evaluation):
            for kind in ("parquet", "json"):
                shutil.copy(REFERENCE / evaluation / f"{name}.{kind}", results / "evidence" / evaluation)
            # the committed evidence is of a version whose settings had fewer keys
            renew(results / "evidence" / evaluation / f"{name}.json", settings=settings_of(config, evaluation, name))
    publish(results, config)
    run, _ = open_run(results)
    run.checks.to_csv(results / "checks.csv", index=False)
    for name, table in TABLES.items():
        frame = table(run.evidence, config)
        shown = readable(name, frame, config)
        write_table(frame, caption(name, run.evidence, config), results / "tables" / name, shown)
    for name, draw in FIGURES.items():
        save(draw(run.evidence, config), figures_of(results) / name, config.figures.dpi)
    publish(results, config)
    return results


def publish(results, config=None):
    """Writes the manifest of all files that are there, with hashes and digest as they are now.

    config: of the run; None: that of the manifest as it is.
    """
    config = config or check_config(json.loads((results / NAME).read_text())["config"] | LOCAL)
    paths = [path for folder in (results, figures_of(results)) for path in folder.rglob("*") if path.is_file()]
    write_manifest(results, config, [path for path in paths if path.name != NAME])


def forge_manifest(results, change):
    """Changes the content of the manifest in place by a function, and writes it with the digest that it has then."""
    manifest = json.loads((results / NAME).read_text())
    change(manifest)
    write_json(manifest | {"digest": digest(manifest)}, results / NAME)


def renew(path, **changes):
    """Changes a sidecar, its own hash of the settings included."""
    record = json.loads(path.read_text()) | changes
    record["settings_sha256"] = hashlib.sha256(json.dumps(record["settings"], sort_keys=True).encode()).hexdigest()
    write_json(record, path)


def forge(results, name, change):
    """Changes a frame of evidence by a function and writes it, its sidecar and the manifest as if it had been so."""
    path = results / "evidence" / f"{name}.parquet"
    frame = pd.read_parquet(path)
    changed = change(frame)
    frame = frame if changed is None else changed
    frame.to_parquet(path, index=False)
    renew(path.with_suffix(".json"), sha256=sha256(path), rows=len(frame))
    publish(results)
