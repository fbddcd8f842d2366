"""What `oodcert cost` prints: the tables of passes, hours, disk and memory of a profile."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from oodcert.config.availability import available
from oodcert.config.load import read_configs
from oodcert.config.method_specs import computed_with
from oodcert.config.models import Config
from oodcert.errors import InputError
from oodcert.execution.cost import CERTAINTIES, UNKNOWN_SIZE, Job, evidence, hours, jobs, passes, uncounted
from oodcert.runtime.files import atomic

KINDS = ("classifier", "discriminator", "denoiser")
NOTES = """Passes are images through a network, forward / backward, with padding and noise draws. exact: what will be
counted; at most: adaptive sampling, AutoAttack and mined outliers may take less; estimate: interval bounds, such as the
guarantees are, count as two passes. The first of the methods that are certified together has the passes of their
denoiser."""
NO_RATES = "For hours give --throughput, images forward a second of a network, or let --measure measure them here."
BATCHES = """The rates are of evaluation.batch_size = {size}, in float32. In {precision}, not compiled, larger batches
than these do not pay, for twice as many images do not fit, or are less than 5 % faster: {best}.
"""
MEMORY = """Memory of a job at its peak, the largest of each rule (estimate, {} MB of it for Python and its libraries;
on a GPU the networks, and the images of a training, are in its memory):"""


@dataclass(frozen=True)
class Measured:
    """What was measured on this machine.

    Attributes:
        rates: component -> images forward a second.
        device: what it was measured on, in words.
        batches: at which batch size each network is best, in words.
    """

    rates: Mapping[str, float]
    device: str
    batches: str


def print_cost(options: argparse.Namespace) -> None:
    """Prints the cost of the profile, and writes the table of passes to options.csv."""
    config = read_configs(options.config)
    if options.mirror:
        config = config.changed(data_mirror=options.mirror)
    config = available(config)
    planned = jobs(config)
    table = passes(planned)
    measured = _measure(config, table) if options.measure else None
    rates = measured.rates if measured else _rates(options.throughput or [])
    if rates:
        table["hours"] = hours(table, rates)
    print(_heading(config))
    for key, title in (("rule", "By rule"), ("job", "By method; trained components in brackets")):
        print(f"\n{title}:\n{_passes(table, key)}")
    print(f"\n{NOTES}\n")
    source = f"measured here ({measured.device})" if measured else "given"
    print("\n".join(_hours(config, table, rates, source, options.gpus)) if rates else NO_RATES)
    print(measured.batches if measured else "", end="")
    print(f"\nDisk, without downloads:\n{_disk(config, planned)}\n\n{_memory(config, planned)}")
    if options.csv:
        with atomic(options.csv) as temporary:
            table.to_csv(temporary, index=False)


def _measure(config: Config, table: pd.DataFrame) -> Measured:
    from oodcert.runtime.torch_setup import prepare_torch

    device = prepare_torch(config.device, threads=config.threads, jobs_per_gpu=1)
    import torch

    from oodcert.execution.throughput import best_batches, measured_rates

    name = torch.cuda.get_device_name() if device == "cuda" else f"{config.threads} thread(s) of a CPU"
    names = table["component"].unique()
    best = best_batches(config, names, device)
    batches = BATCHES.format(
        size=config.evaluation.batch_size,
        precision=config.evaluation.certify_l2.precision,
        best=", ".join(f"{component} {size} ({rate:,.0f} images a second)" for component, (size, rate) in best.items()),
    )
    rates = measured_rates(config, names, device)
    return Measured(rates, f"{name}, {platform.system()} {platform.machine()}", batches)


def _rates(words: Iterable[str]) -> dict[str, float]:
    """component -> rate, from COMPONENT=RATE words. Raises InputError on other words."""
    rates = {}
    for word in words:
        component, _, rate = word.partition("=")
        try:
            rates[component] = float(rate)
        except ValueError:
            rates[component] = 0
        if not 0 < rates[component] < float("inf"):
            raise InputError(f"--throughput {word!r}: write COMPONENT=IMAGES_PER_SECOND, such as denoiser=1500.")
    return rates


def _heading(config: Config) -> str:
    data = config.data
    lines = [
        f"Profile {config.profile}: {len(config.methods)} methods; {data.test_images:,} images of each of "
        f"{1 + len(data.ood)} sets ({', '.join([data.id, *data.ood])})."
    ]
    lines += [f"Not counted: {name} is unavailable ({why})." for name, why in data.unavailable.items()]
    lines += [f"The size of {name} is unknown: counted as {UNKNOWN_SIZE:,} images." for name in uncounted(config)]
    return "\n".join(lines)


def _passes(table: pd.DataFrame, key: str) -> str:
    """The passes summed by rule or by job, as text: classifiers, discriminator and denoiser side by side."""
    trained = (table["rule"] == "train") if key == "job" else pd.Series(False, table.index)
    names = table[key].where(~trained, "(" + table["job"] + ")")
    kinds = table["component"].where(table["component"].isin(KINDS[1:]), KINDS[0])
    rows = []
    for name in [*names[~trained].unique(), *names[trained].unique(), "total"]:
        chosen = table[(names == name) | (name == "total")]
        row = {key: name}
        for kind in KINDS:
            counts = chosen.loc[kinds == kind, ["forward", "backward"]].sum()
            row[kind] = f"{counts['forward']:,} / {counts['backward']:,}" if counts.any() else "-"
        if key == "rule" or trained[chosen.index].all():  # methods: the worst of all their rules says little
            row["count"] = max(chosen["certainty"], key=CERTAINTIES.index)
        if "hours" in table:
            row["hours"] = f"{chosen['hours'].sum():,.2f}"
        rows.append(row)
    return _text(rows)


def _hours(config: Config, table: pd.DataFrame, rates: Mapping[str, float], source: str, gpus: int) -> list[str]:
    together = [
        " and ".join(computed_with(rule, job, config.methods))
        for rule, job in zip(table["rule"], table["job"], strict=True)
    ]
    total, longest = table["hours"].sum(), table.groupby(["rule", pd.Series(together, table.index)])["hours"].sum()
    wall = max(total / gpus, longest.max())
    return [
        f"Hours at the forward rates {source}, a backward pass counted as two forward ones: "
        + ", ".join(f"{component} {rate:,.0f}" for component, rate in rates.items())
        + " images a second.",
        f"In all {total:,.2f} hours of one device; on {gpus} of them {wall:,.2f} hours at best, all busy all the time. "
        f"The longest job: {' '.join(longest.idxmax())}, {longest.max():,.2f} hours.",
        "Reading, drawing noise, bounds from draws, tables and figures are not in it.",
    ]


def _disk(config: Config, planned: Sequence[Job]) -> str:
    from oodcert.execution.footprint import disk

    sizes, rows = disk(config, planned), evidence(planned)["rows"].sum()
    how = {
        "evidence": f"estimate: {rows:,} rows, at the bytes a row of the reference run",
        "models": "exact, but for the files' headers",
        "image sets": "at most: as bytes, though the files are compressed",
    }
    return _text([{"what": kind, "MB": _megabytes(size), "how sure": how[kind]} for kind, size in sizes.items()])


def _memory(config: Config, planned: Sequence[Job]) -> str:
    from oodcert.execution.footprint import PROGRAM, memory

    by_job = memory(config, planned)
    largest = by_job.loc[by_job.groupby("rule", sort=False)["total"].idxmax()].sort_values("total", ascending=False)
    columns = [name for name in largest if name not in ("rule", "job")]
    rows = [
        {"rule": row["rule"], "largest job": row["job"], **{f"{name}, MB": _megabytes(row[name]) for name in columns}}
        for _, row in largest.iterrows()
    ]
    return f"{MEMORY.format(_megabytes(PROGRAM))}\n{_text(rows)}"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f}" if size < 1e7 else f"{size / 1e6:,.0f}"


def _text(rows: Sequence[Mapping[str, Any]]) -> str:
    frame = pd.DataFrame(rows).fillna("")
    words = ("rule", "job", "largest job", "what", "how sure", "count")
    align = ["left" if name in words else "right" for name in frame]
    return frame.to_markdown(index=False, tablefmt="simple", colalign=align, disable_numparse=True)
