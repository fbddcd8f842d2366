"""What the benchmarks share: arguments, the networks and images of a finished run, and the record of a result."""

import argparse
import os
import platform
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from oodcert.cli.arguments import POSITIVE_INT
from oodcert.config.load import read_configs
from oodcert.config.method_specs import trained_components
from oodcert.data.imageset import ImageSet
from oodcert.errors import InputError
from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import write_json
from oodcert.execution.jobs import load_components, load_sets
from oodcert.models.networks import build_network
from oodcert.runtime.memory import keep_freed_memory

METHODS = ("plain", "oe", "prood", "distro")  # of the run's, those that are measured unless a script takes all
LARGE = {"shape": (3, 32, 32), "classes": 10}  # of networks that are larger than the run's, and untrained
RESNET = {"name": "resnet", "depth": 8, "width": 16}


def parser(description, images, out, draws=True):
    """The arguments of all scripts; images and out: their defaults, no images where a script takes all of them; draws:
    whether it makes noise draws."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = made.add_argument
    if images:
        add(
            "--images",
            type=POSITIVE_INT,
            default=images,
            metavar="N",
            help="images of every set, evenly spaced over it",
        )
    if draws:
        add("--n", type=POSITIVE_INT, default=10_000, help="noise draws an image, at most")
    add("--threads", type=POSITIVE_INT, default=1, help="torch threads")
    add("--config", default="config/config.yaml", metavar="FILE", help="config of the finished run")
    add("--directory", default=".", metavar="DIR", help="folder that holds the run's results/ and data/")
    add("--out", default=out, metavar="FILE", help="json file of the measurements")
    return made


@dataclass
class Run:
    """A finished run.

    parts: name -> trained module; sets: "id" and the OOD sets -> ImageSet; inputs: their files.
    """

    config: dict
    parts: dict
    sets: dict
    inputs: list

    def images(self, name):
        """A set's images, float32 [N, C, H, W] in [0, 1]."""
        return torch.from_numpy(self.sets[name].floats())


def load_run(config, directory, images, methods=METHODS):
    """The Run of a config file, with `images` images of every set, and these methods alone, or all for None.

    Raises InputError where the run is not finished.
    """
    config = read_configs([config])
    methods = config["methods"] if methods is None else methods
    lacking = [method for method in methods if method not in config["methods"]]
    if lacking:
        raise InputError(f"The config has no method {', '.join(lacking)}: the benchmarks measure {', '.join(METHODS)}.")
    config["methods"] = {method: config["methods"][method] for method in methods}
    profile, data = config["profile"], config["data"]
    needed = trained_components(config["methods"], config["training"])
    parts = [Path(directory, "results", profile, "models", f"{part}.safetensors") for part in needed]
    sets = [Path(directory, "data", profile, f"{name}.npz") for name in ("id_test", *data["ood"])]
    missing = [str(path) for path in (*parts, *sets) if not path.exists()]
    if missing:
        raise InputError(
            f"{missing[0]} does not exist: this benchmark measures the networks of a finished {profile} run. Run "
            "`make` first, or pass the folder that holds results/ and data/ with --directory."
        )
    settings = {**data, "networks": config["networks"]}
    loaded = load_sets(sets, settings)
    return Run(
        config,
        load_components(parts, settings),
        {name: evenly_spaced(image_set, images) for name, image_set in loaded.items()},
        [*parts, *sets],
    )


def untrained(spec, shape=LARGE["shape"], outputs=LARGE["classes"]):
    """A network with fresh weights, always the same ones, in evaluation mode."""
    torch.manual_seed(0)
    return build_network(spec, shape, outputs).eval()


def evenly_spaced(image_set, count):
    """`count` images of a set, evenly spaced over it; all of them where it holds no more."""
    index = np.linspace(0, len(image_set), min(count, len(image_set)), endpoint=False).astype(int)
    return ImageSet(image_set.name, image_set.images[index], image_set.labels[index], image_set.ids[index])


def compared(before, after):
    """How certified decisions `after` differ from those `before`: boolean Series with one index."""
    return {
        "decisions": len(before),
        "agree": int((before == after).sum()),
        "more_conservative": int((before & ~after).sum()),
        "less_conservative": int((after & ~before).sum()),
    }


def timings(functions, repetitions, clock=perf_counter):
    """name -> seconds by the clock of every repetition, after one to warm up; in turn, in alternating order."""
    seconds = {name: [] for name in functions}
    for repetition in range(repetitions + 1):
        order = list(functions)[:: 1 if repetition % 2 else -1]
        for name in order:
            begun = clock()
            functions[name]()
            if repetition:
                seconds[name].append(clock() - begun)
    return seconds


def started(options, inputs, **settings):
    """The Provenance of a benchmark, its clock running: settings, packages, commit and inputs."""
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    shared = {key: getattr(options, key) for key in ("images", "n", "threads") if hasattr(options, key)}
    return Provenance(shared | settings, inputs)


def finish(provenance, options, script, argv, **tables):
    """Writes the DataFrames of measurements, as rows, and where they come from to the json file of --out."""
    command = shlex.join(["python", f"benchmarks/{Path(script).name}", *(sys.argv[1:] if argv is None else argv)])
    rows = {name: frame.astype(object).where(frame.notna(), None).to_dict("records") for name, frame in tables.items()}
    write_json(provenance.record(command=command, machine=machine(options.threads), **rows), options.out)
    print(f"\nWritten to {options.out}")


def machine(threads):
    """The processor, its cores and the torch threads in use."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.+)$", info.read_text(), re.MULTILINE) if info.exists() else []
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
    }


def show(title, frame, decimals):
    """Prints a DataFrame under its title; decimals: of each float column, by its name."""
    formats = {name: f"{{:,.{places}f}}".format for name, places in decimals.items()}
    formats |= {name: "{:,}".format for name in frame.select_dtypes("integer")}
    print(f"\n{title}\n{frame.to_string(index=False, formatters=formats)}", flush=True)


def run_script(main):
    """Runs a script's main; an InputError ends it with exit code 1 and its one paragraph."""
    try:
        main()
    except InputError as error:
        sys.exit(f"Error: {error}")
