"""The report: every number that it prints, as one JSON, and the PDF that typst makes of it. Imports no torch."""

import json
from pathlib import Path

import pandas as pd
import typst

from oodcert.config.availability import available
from oodcert.errors import InputError
from oodcert.evidence.manifest import read_manifest
from oodcert.evidence.store import write_json
from oodcert.execution.cost import jobs, passes
from oodcert.reporting.display_names import label, marked
from oodcert.reporting.tables.ablation import measure_label, shown
from oodcert.runtime.files import atomic

KEYS = {  # table -> the columns that name a row; every other column is a number of the report
    "id": ["method"],
    "ood": ["set", "method", "protocol"],
    "l2": ["set", "method", "sigma", "bound", "radius"],
    "headline": ["method"],
}
LISTS = ("claims", "reported")  # tables that the report shows row by row
SIGNED = ("lead", "difference", "effect")  # columns whose sign is printed
PERCENT = ("measured", "lower", "upper", "reported", "difference")  # of LISTS, in % or points already
SHARES = ("published", "sound", "effect")  # of the ablation, as fractions


def report_data(runs, planned):
    """What the report's sources read: a dict for JSON.

    runs: folders of finished runs with manifest, tables and the evidence's sidecars, each named after its profile;
    planned: the checked config of the profile whose cost is counted. `numbers` is key -> {value, text} with keys
    <profile>/<table>/<row>/<column>, the text rounded for print (`printed`). `runs` has each run's config, labels,
    digest and the rows of LISTS and of the ablation. Raises InputError where a table or a sidecar is missing.
    """
    numbers, described = {}, {}
    for run in map(Path, runs):
        name, manifest = run.name, read_manifest(run)
        found = _table_numbers(run) | _cost_numbers(run)
        numbers |= {f"{name}/{key}": entry for key, entry in found.items()}
        described[name] = _described(run, manifest)
    numbers |= {f"planned/{key}": entry for key, entry in _planned_numbers(planned).items()}
    return {"numbers": numbers, "runs": described}


def printed(value, column=""):
    """{"value", "text"} of one number: counts in full, shares in %, the text with one decimal, the value unrounded."""
    if isinstance(value, bool):
        return {"value": value, "text": "yes" if value else "no"}
    if isinstance(value, int):
        return {"value": value, "text": f"{value:,}"}
    return {"value": 100 * value, "text": decimal(100 * value, column)}


def decimal(value, column=""):
    """A value of a column, in % or points, as it is printed: one decimal, a minus sign, a plus only in SIGNED."""
    text = f"{value:{'+' if column in SIGNED else ''}.1f}".replace("inf", "∞")
    return "0.0" if text in ("-0.0", "+0.0") else text.replace("-", "−")


def build_report(source, pdf):
    """Compiles a typst source, the same bytes at every call. Raises InputError with typst's message if that fails.

    source: the main file; everything that it reads lies in the folder above its own, or deeper.
    """
    source = Path(source).resolve()
    try:
        compiled = typst.Compiler(source, root=source.parents[1], ignore_system_fonts=True).compile(format="pdf")
    except typst.TypstError as error:
        raise InputError(f"{source.name} cannot be built: {error.diagnostic}") from error
    with atomic(pdf) as temporary:
        temporary.write_bytes(compiled)


def write_report_data(data, path):
    """Writes the JSON of `report_data`, whole or not at all."""
    json.dumps(data, allow_nan=False)
    write_json(data, path)


def _table_numbers(run):
    found = {}
    for table, keys in KEYS.items():
        for row in _read(run, table).to_dict("records"):
            names = [f"{row[key]:g}" if isinstance(row[key], float) else row[key] for key in keys]
            values = {key: value for key, value in row.items() if key not in keys and not pd.isna(value)}
            found |= {"/".join([table, *names, key]): printed(value, key) for key, value in values.items()}
    return found


def _cost_numbers(run):
    """Jobs, hours and calls of every evaluation and of training, from the sidecars."""
    rows = []
    for path in sorted((run / "evidence").glob("*/*.json")):
        record = json.loads(path.read_text())
        rows.append((path.parent.name, record["wall_seconds"], record.get("network_calls", 0)))
    if not rows:
        raise InputError(f"{run}/evidence has no sidecars: finish that run with `snakemake --cores all`.")
    table = pd.DataFrame(rows, columns=["evaluation", "seconds", "calls"])
    groups = [*table.groupby("evaluation"), ("total", table)]
    return {f"cost/{name}/{key}": entry for name, part in groups for key, entry in _summed(part).items()}


def _summed(part):
    minutes = part["seconds"].sum() / 60
    return {
        "jobs": printed(len(part)),
        "minutes": {"value": round(minutes, 1), "text": f"{minutes:.1f}"},
        "calls": printed(int(part["calls"].sum())),
    }


def _planned_numbers(config):
    """Passes of a profile that was not run, in all and by kind of network."""
    table = passes(jobs(available(config)))
    kinds = table["part"].where(table["part"].isin(["discriminator", "denoiser"]), "classifier")
    groups = [*table.groupby(kinds), ("total", table)]
    return {
        f"{name}/{way}": {"value": int(part[way].sum()), "text": f"{part[way].sum() / 1e9:.2f}"}
        for name, part in groups
        for way in ("forward", "backward")
    }


def _described(run, manifest):
    config = manifest["config"]
    reliable = _read(run, "headline").set_index("method")["reliable"]
    return {
        "config": config,
        **{key: manifest[key] for key in ("commit", "digest", "packages")},
        "files": len(manifest["files"]),
        "methods": {name: marked(name, bool(reliable[name])) for name in config["methods"]},
        "labels": {name: label(name) for name in (*config["methods"], *config["data"]["ood"], config["data"]["id"])},
        "figures": f"/figures/reference/{run.name}",
        **{table: _texts(_read(run, table)) for table in LISTS},
        **(_ablation(_read(run, "ablation")) if config["evaluation"]["published"] else {}),
    }


def _ablation(table):
    """The rows of the ablation for the eye, and the flags that act on no method, with the reason for the first."""
    rows = shown(table)
    rows = rows.assign(measure=rows["measure"].map(measure_label))
    idle = table[~table["flag"].isin(rows["flag"])].drop_duplicates("flag")
    return {"ablation": _texts(rows), "idle": _texts(idle.assign(note=idle["note"].str.split(": ").str[-1]))}


def _texts(table):
    """The rows of a table: what is missing as None, numbers as they are printed, those of SHARES with their value."""
    return [{key: _cell(value, key) for key, value in row.items()} for row in table.to_dict("records")]


def _cell(value, column):
    if not isinstance(value, str) and pd.isna(value):
        return None
    if column in SHARES and not isinstance(value, str):
        return printed(value, column)
    return decimal(value, column) if column in PERCENT else value


def _read(run, table):
    path = run / "tables" / f"{table}.csv"
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): finish that run with `snakemake --cores all`.") from error
