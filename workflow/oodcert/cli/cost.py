"""`oodcert cost`: what a profile will take, from its config: passes, hours, disk and memory."""

import platform

import pandas as pd

from oodcert.config.availability import available
from oodcert.config.load import read_configs
from oodcert.config.method_specs import computed_with
from oodcert.errors import InputError
from oodcert.execution.cost import COUNTS, UNKNOWN_SIZE, evidence, hours, jobs, passes, uncounted
from oodcert.runtime.files import atomic

KINDS = ("classifier", "discriminator", "denoiser")
NOTES = """Passes are images through a network, forward / backward, with padding and noise draws. exact: what will be
counted; at most: adaptive sampling, AutoAttack and mined outliers may take less; estimate: interval bounds, such as the
guarantees are, count as two passes. The first of the methods that are certified together has the passes of their
denoiser."""
NO_RATES = "For hours give --throughput, images forward a second of a network, or let --measure find them here."
BATCHES = """The rates are of evaluation.batch_size = {size}, in float32. In {precision}, not compiled, larger batches
than these do not pay, for twice as many images do not fit, or are less than 5 % faster: {best}.
"""
MEMORY = """Memory of a job at its peak, the largest of each rule (estimate, {} MB of it for Python and its libraries;
on a GPU the networks, and the images of a training, are in its memory):"""


def run(options):
    """Prints the cost of the profile, and writes the table of passes to options.csv."""
    config = read_configs(options.config)
    if options.mirror:
        config["data_mirror"] = options.mirror
    config = available(config)
    work = jobs(config)
    table, device, batches = passes(work), None, ""
    if options.measure:
        rates, device, batches = _measure(config, table)
    else:
        rates = _rates(options.throughput or [])
    if rates:
        table["hours"] = hours(table, rates)
    print(_heading(config))
    for key, title in (("rule", "By rule"), ("job", "By method; trained parts in brackets")):
        print(f"\n{title}:\n{_passes(table, key)}")
    print(f"\n{NOTES}\n")
    print("\n".join(_hours(config, table, rates, device, options.gpus)) if rates else NO_RATES)
    print(batches, end="")
    print(f"\nDisk, without downloads:\n{_disk(config, work)}\n\n{_memory(config, work)}")
    if options.csv:
        with atomic(options.csv) as temporary:
            table.to_csv(temporary, index=False)


def _measure(config, table):
    """Rates of the profile's networks on its device here, what that is, and at which batch size they are best."""
    from oodcert.execution.jobs import prepare_torch

    device = prepare_torch(config)
    import torch

    from oodcert.execution.footprint import best_batches, measured_rates

    name = torch.cuda.get_device_name() if device == "cuda" else f"{config['threads']} thread(s) of a CPU"
    names = table["part"].unique()
    best = best_batches(config, names, device)
    batches = BATCHES.format(
        size=config["evaluation"]["batch_size"],
        precision=config["evaluation"]["certify_l2"].get("precision", "float32"),
        best=", ".join(f"{part} {size} ({rate:,.0f} images a second)" for part, (size, rate) in best.items()),
    )
    return measured_rates(config, names, device), f"{name}, {platform.system()} {platform.machine()}", batches


def _rates(words):
    """part -> rate, from PART=RATE words. Raises InputError on other words."""
    found = {}
    for word in words:
        part, _, rate = word.partition("=")
        try:
            found[part] = float(rate)
        except ValueError:
            found[part] = 0
        if not 0 < found[part] < float("inf"):
            raise InputError(f"--throughput {word!r}: write PART=IMAGES_PER_SECOND, such as denoiser=1500.")
    return found


def _heading(config):
    data = config["data"]
    lines = [
        f"Profile {config['profile']}: {len(config['methods'])} methods; {data['test_images']:,} images of each of "
        f"{1 + len(data['ood'])} sets ({', '.join([data['id'], *data['ood']])})."
    ]
    lines += [f"Not counted: {name} can't be had ({why})." for name, why in data["unavailable"].items()]
    lines += [f"The size of {name} is not known: counted as {UNKNOWN_SIZE:,} images." for name in uncounted(config)]
    return "\n".join(lines)


def _passes(table, key):
    """The passes summed by rule or by job, as text: classifiers, discriminator and denoiser side by side."""
    trained = (table["rule"] == "train") if key == "job" else pd.Series(False, table.index)
    names = table[key].where(~trained, "(" + table["job"] + ")")
    kinds = table["part"].where(table["part"].isin(KINDS[1:]), KINDS[0])
    rows = []
    for name in [*names[~trained].unique(), *names[trained].unique(), "total"]:
        chosen = table[(names == name) | (name == "total")]
        row = {key: name}
        for kind in KINDS:
            counts = chosen.loc[kinds == kind, ["forward", "backward"]].sum()
            row[kind] = f"{counts['forward']:,} / {counts['backward']:,}" if counts.any() else "-"
        if key == "rule" or trained[chosen.index].all():  # methods: the worst of all their rules says little
            row["count"] = max(chosen["count"], key=COUNTS.index)
        if "hours" in table:
            row["hours"] = f"{chosen['hours'].sum():,.2f}"
        rows.append(row)
    return _text(rows)


def _hours(config, table, rates, device, gpus):
    together = [
        " and ".join(computed_with(rule, job, config["methods"]))
        for rule, job in zip(table["rule"], table["job"], strict=True)
    ]
    total, longest = table["hours"].sum(), table.groupby(["rule", pd.Series(together, table.index)])["hours"].sum()
    wall = max(total / gpus, longest.max())
    source = f"measured here ({device})" if device else "given"
    return [
        f"Hours at the forward rates {source}, a backward pass counted as two forward ones: "
        + ", ".join(f"{part} {rate:,.0f}" for part, rate in rates.items())
        + " images a second.",
        f"In all {total:,.2f} hours of one device; on {gpus} of them {wall:,.2f} hours at best, all busy all the time. "
        f"The longest job: {' '.join(longest.idxmax())}, {longest.max():,.2f} hours.",
        "Reading, drawing noise, bounds from draws, tables and figures are not in it.",
    ]


def _disk(config, work):
    from oodcert.execution.footprint import disk

    sizes, rows = disk(config, work), evidence(work)["rows"].sum()
    how = {
        "evidence": f"estimate: {rows:,} rows, at the bytes a row of the reference run",
        "models": "exact, but for the files' headers",
        "image sets": "at most: as bytes, though the files are compressed",
    }
    return _text([{"what": kind, "MB": _megabytes(size), "how sure": how[kind]} for kind, size in sizes.items()])


def _memory(config, work):
    from oodcert.execution.footprint import PROGRAM, memory

    found = memory(config, work)
    largest = found.loc[found.groupby("rule", sort=False)["total"].idxmax()].sort_values("total", ascending=False)
    columns = [name for name in largest if name not in ("rule", "job")]
    rows = [
        {"rule": row["rule"], "largest job": row["job"], **{f"{name}, MB": _megabytes(row[name]) for name in columns}}
        for _, row in largest.iterrows()
    ]
    return f"{MEMORY.format(_megabytes(PROGRAM))}\n{_text(rows)}"


def _megabytes(size):
    return f"{size / 1e6:,.1f}" if size < 1e7 else f"{size / 1e6:,.0f}"


def _text(rows):
    frame = pd.DataFrame(rows).fillna("")
    words = ("rule", "job", "largest job", "what", "how sure", "count")
    align = ["left" if name in words else "right" for name in frame]
    return frame.to_markdown(index=False, tablefmt="simple", colalign=align, disable_numparse=True)
