"""The report: every number that it prints, as one JSON, and the PDF that typst makes of it. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import typst

from oodcert.config.load import check_config
from oodcert.errors import InputError
from oodcert.evidence.manifest import LOCAL, Manifest, read_manifest
from oodcert.evidence.store import write_json
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
Entry = dict[str, Any]  # of one number: value and text

SIGNED = ("lead", "difference", "effect")  # columns whose sign is printed
PERCENT = ("measured", "lower", "upper", "reported", "difference")  # of LISTS, in % or points already
SHARES = ("authors_code", "sound", "effect")  # of the ablation, as fractions


def report_data(runs: Iterable[str | Path], planned: pd.DataFrame) -> dict[str, Any]:
    """What the report's sources read, as JSON has it.

    Args:
        runs: folders of finished runs with manifest, tables and the evidence's sidecars, each named after its profile.
        planned: passes of a profile whose cost is counted, with the columns component, forward and backward (images
            through a component), as oodcert.execution.cost.passes gives them.

    Returns:
        `numbers`: <profile>/<table>/<row>/<column> -> {value, text}, the text rounded for print (`printed`). `runs`:
        profile -> config, labels, digest, and the rows of LISTS and of the ablation.

    Raises:
        InputError: if a table or a sidecar is missing.
    """
    numbers: dict[str, Entry] = {}
    described = {}
    for run in map(Path, runs):
        name, manifest = run.name, read_manifest(run)
        entries = _table_numbers(run) | _cost_numbers(run)
        numbers |= {f"{name}/{key}": entry for key, entry in entries.items()}
        described[name] = _described(run, manifest)
    numbers |= {f"planned/{key}": entry for key, entry in _planned_numbers(planned).items()}
    return {"numbers": numbers, "runs": described}


def printed(value: bool | int | float, column: str = "") -> Entry:
    """Value and text of one number: counts in full, shares in %. The text has one decimal, the value is unrounded."""
    if isinstance(value, bool):
        return {"value": value, "text": "yes" if value else "no"}
    if isinstance(value, int):
        return {"value": value, "text": f"{value:,}"}
    return {"value": 100 * value, "text": decimal(100 * value, column)}


def decimal(value: float, column: str = "") -> str:
    """A value of a column, in % or points, as it is printed: one decimal, a minus sign, a plus only in SIGNED."""
    text = f"{value:{'+' if column in SIGNED else ''}.1f}".replace("inf", "∞")
    return "0.0" if text in ("-0.0", "+0.0") else text.replace("-", "−")


def build_report(source: str | Path, pdf: str | Path) -> None:
    """Compiles a typst source, the same bytes at every call.

    Args:
        source: the main file. Everything that it reads lies in the folder above its own, or deeper.
        pdf: the file that is written.

    Raises:
        InputError: with typst's message, if it cannot be compiled.
    """
    source = Path(source).resolve()
    try:
        compiled = typst.Compiler(source, root=source.parents[1], ignore_system_fonts=True).compile(format="pdf")
    except typst.TypstError as error:
        raise InputError(f"{source.name} cannot be built: {error.diagnostic}") from error
    assert isinstance(compiled, bytes)  # one file, as pdf has it
    with atomic(pdf) as temporary:
        temporary.write_bytes(compiled)


def write_report_data(data: Mapping[str, Any], path: str | Path) -> None:
    """Writes the JSON of `report_data`, whole or not at all."""
    json.dumps(data, allow_nan=False)
    write_json(data, path)


def _table_numbers(run: Path) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for table, keys in KEYS.items():
        for row in _read(run, table).to_dict("records"):
            names = [f"{row[key]:g}" if isinstance(row[key], float) else row[key] for key in keys]
            values = {key: value for key, value in row.items() if key not in keys and not pd.isna(value)}
            entries |= {"/".join([table, *names, key]): printed(value, key) for key, value in values.items()}
    return entries


def _cost_numbers(run: Path) -> dict[str, Entry]:
    """Jobs, hours and calls of every evaluation and of training, from the sidecars."""
    rows = []
    for path in sorted((run / "evidence").glob("*/*.json")):
        record = json.loads(path.read_text())
        rows.append((path.parent.name, record["wall_seconds"], record.get("network_calls", 0)))
    if not rows:
        raise InputError(f"{run}/evidence has no sidecars: finish that run with `snakemake --cores all`.")
    table = pd.DataFrame(rows, columns=["evaluation", "seconds", "calls"])
    groups = [*table.groupby("evaluation"), ("total", table)]
    return {f"cost/{name}/{key}": entry for name, jobs in groups for key, entry in _summed(jobs).items()}


def _summed(jobs: pd.DataFrame) -> dict[str, Entry]:
    minutes = jobs["seconds"].sum() / 60
    return {
        "jobs": printed(len(jobs)),
        "minutes": {"value": round(minutes, 1), "text": f"{minutes:.1f}"},
        "calls": printed(int(jobs["calls"].sum())),
    }


def _planned_numbers(passes: pd.DataFrame) -> dict[str, Entry]:
    """Passes of a profile that was not run, in all and by kind of network."""
    kinds = passes["component"].where(passes["component"].isin(["discriminator", "denoiser"]), "classifier")
    groups = [*passes.groupby(kinds), ("total", passes)]
    return {
        f"{name}/{way}": {"value": int(of_kind[way].sum()), "text": f"{of_kind[way].sum() / 1e9:.2f}"}
        for name, of_kind in groups
        for way in ("forward", "backward")
    }


def _described(run: Path, manifest: Manifest) -> dict[str, Any]:
    """What the report says of a run beside its numbers."""
    config = check_config({**LOCAL, **manifest["config"]})
    reliable = _read(run, "headline").set_index("method")["reliable"]
    return {
        "config": manifest["config"],
        **{key: value for key, value in manifest.items() if key in ("commit", "digest", "packages")},
        "files": len(manifest["files"]),
        "methods": {name: marked(name, bool(reliable[name])) for name in config.methods},
        "labels": {name: label(name) for name in (*config.methods, *config.data.ood, config.data.id)},
        "figures": f"/figures/reference/{run.name}",
        **{table: _texts(_read(run, table)) for table in LISTS},
        **(_ablation(_read(run, "ablation")) if config.evaluation.authors_code else {}),
    }


def _ablation(table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """The rows of the ablation for people, and the flags that act on no method, with the reason for the first."""
    rows = shown(table)
    rows = rows.assign(measure=rows["measure"].map(measure_label))
    idle = table[~table["flag"].isin(rows["flag"])].drop_duplicates("flag")
    return {"ablation": _texts(rows), "idle": _texts(idle.assign(note=idle["note"].str.split(": ").str[-1]))}


def _texts(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table: what is missing as None, numbers as they are printed, those of SHARES with their value."""
    return [{key: _cell(value, key) for key, value in row.items()} for row in table.to_dict("records")]


def _cell(value: Any, column: str) -> Any:
    if not isinstance(value, str) and pd.isna(value):
        return None
    if column in SHARES and not isinstance(value, str):
        return printed(value, column)
    return decimal(value, column) if column in PERCENT else value


def _read(run: Path, table: str) -> pd.DataFrame:
    path = run / "tables" / f"{table}.csv"
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): finish that run with `snakemake --cores all`.") from error
