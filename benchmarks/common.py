"""What the benchmarks share: arguments, the networks and images of a finished run, and the record of a result."""

import argparse
import os
import platform
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from oodcert.cli.arguments import POSITIVE_INT
from oodcert.config.external_weights import networks_of
from oodcert.config.load import read_configs
from oodcert.config.method_specs import trained_components
from oodcert.config.models import Config
from oodcert.data.imageset import ImageSet
from oodcert.errors import InputError
from oodcert.evaluations.settings import NetworkJob, network_job
from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import write_json
from oodcert.execution.jobs import load_components, load_sets
from oodcert.models.networks import build_network
from oodcert.runtime.memory import keep_freed_memory

METHODS = ("plain", "oe", "prood", "distro")  # the run's methods that are measured, unless a script takes all of them
LARGE_SHAPE, LARGE_CLASSES = (3, 32, 32), 10  # of networks that are larger than the run's, and untrained
RESNET = {"name": "resnet", "depth": 8, "width": 16}


def parser(description: str | None, images: int | None, out: str, draws: bool = True) -> argparse.ArgumentParser:
    """The arguments that all scripts share.

    Args:
        description: of the script.
        images: default of --images; None for a script without that argument.
        out: default of --out.
        draws: whether the script makes noise draws, and has the argument --n.
    """
    made = argparse.ArgumentParser(
        description=description and description.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
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


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        config: with the measured methods alone.
        components: name -> trained module.
        sets: "id" and the names of the OOD sets -> ImageSet.
        inputs: files of the components and the sets.
    """

    config: Config
    components: dict[str, nn.Module]
    sets: dict[str, ImageSet]
    inputs: list[Path]

    def images(self, name: str) -> Tensor:
        """A set's images, float32 [N, C, H, W] in [0, 1]."""
        return torch.from_numpy(self.sets[name].floats())


def load_run(
    config_path: str | Path, directory: str | Path, images: int, methods: Sequence[str] | None = METHODS
) -> Run:
    """A finished run, with a few images of every set.

    Args:
        config_path: the run's config.
        directory: folder that holds its results/ and data/.
        images: how many of every set, evenly spaced over it.
        methods: names of those that are measured; None for all of the config.

    Raises:
        InputError: if a method is not in the config, or the run is not finished.
    """
    config = read_configs([config_path])
    lacking = [method for method in methods or () if method not in config.methods]
    if lacking:
        raise InputError(f"The config has no method {', '.join(lacking)}: the benchmarks measure {', '.join(METHODS)}.")
    config = config.changed(methods={method: config.methods[method] for method in methods or config.methods})
    names = trained_components(config.methods, config.training)
    components = [Path(directory, path) for path in weight_files(config, names)]
    sets = [Path(directory, path) for path in set_files(config, "id_test")]
    refuse_missing([*components, *sets], config.profile)
    settings = NetworkJob(**network_job(config))
    return Run(
        config,
        load_components(components, networks_of(names, config), settings),
        {name: evenly_spaced(image_set, images) for name, image_set in load_sets(sets, settings).items()},
        [*components, *sets],
    )


def weight_files(config: Config, components: Sequence[str]) -> list[str]:
    """Files of a run that hold the weights of these components, relative to its folder."""
    return [f"results/{config.profile}/models/{name}.safetensors" for name in components]


def set_files(config: Config, *names: str) -> list[str]:
    """Files of a run that hold these image sets and the OOD sets, relative to its folder."""
    return [f"data/{config.profile}/{name}.npz" for name in (*names, *config.data.ood)]


def refuse_missing(paths: Sequence[Path], profile: str) -> None:
    """Raises InputError if a file of the finished run is missing."""
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise InputError(
            f"{missing[0]} does not exist: this benchmark needs a finished {profile} run. Run `make` first, or pass "
            "the folder that holds results/ and data/ with --directory."
        )


def untrained(spec: Mapping[str, Any], shape: Sequence[int] = LARGE_SHAPE, outputs: int = LARGE_CLASSES) -> nn.Module:
    """A network with fresh weights, always the same ones, in evaluation mode."""
    torch.manual_seed(0)
    return build_network(spec, shape, outputs).eval()


def evenly_spaced(image_set: ImageSet, count: int) -> ImageSet:
    """`count` images of a set, evenly spaced over it; all of them where it holds no more."""
    index = np.linspace(0, len(image_set), min(count, len(image_set)), endpoint=False).astype(int)
    return ImageSet(image_set.name, image_set.images[index], image_set.labels[index], image_set.ids[index])


@dataclass
class Passes:
    """Images that went through a component, the padding of batches included, and the seconds they took.

    A copy on which a network is tried has the first hook alone: its passes are not counted.
    """

    images: int = 0
    seconds: float = 0.0
    begun: float = 0.0

    def begin(self, _: nn.Module, __: tuple[Any, ...]) -> None:
        """Starts the clock of a pass."""
        self.begun = perf_counter()

    def end(self, _: nn.Module, inputs: tuple[Any, ...], __: Any) -> None:
        """Counts the images of a pass, and its seconds."""
        self.images += len(inputs[0])
        self.seconds += perf_counter() - self.begun


@contextmanager
def counted(components: Mapping[str, nn.Module]) -> Iterator[dict[str, Passes]]:
    """Within it, name -> passes of each component so far."""
    passes = {name: Passes() for name in components}
    with ExitStack() as stack:
        for name, component in components.items():
            stack.callback(component.register_forward_pre_hook(passes[name].begin).remove)
            stack.callback(component.register_forward_hook(passes[name].end).remove)
        yield passes


def compared(before: pd.Series, after: pd.Series) -> dict[str, int]:
    """How certified decisions `after` differ from those `before`: boolean Series with one index."""
    return {
        "decisions": len(before),
        "agree": int((before == after).sum()),
        "more_conservative": int((before & ~after).sum()),
        "less_conservative": int((after & ~before).sum()),
    }


def timings(
    functions: Mapping[str, Callable[[], Any]], repetitions: int, clock: Callable[[], float] = perf_counter
) -> dict[str, list[float]]:
    """name -> seconds of every repetition, by the clock.

    One repetition more comes first, to warm up. The functions are called in turn, in alternating order.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repetition in range(repetitions + 1):
        order = list(functions)[:: 1 if repetition % 2 else -1]
        for name in order:
            begun = clock()
            functions[name]()
            if repetition:
                seconds[name].append(clock() - begun)
    return seconds


def started(options: argparse.Namespace, inputs: Sequence[Path], **settings: Any) -> Provenance:
    """The Provenance of a benchmark, its clock running: settings, packages, commit and inputs."""
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    shared = {key: getattr(options, key) for key in ("images", "n", "threads") if hasattr(options, key)}
    return Provenance(shared | settings, inputs)


def finish(
    provenance: Provenance,
    options: argparse.Namespace,
    script: str,
    argv: Sequence[str] | None,
    **tables: pd.DataFrame,
) -> None:
    """Writes the measurements, as rows, and where they come from to the json file of --out.

    Args:
        provenance: as of `started`.
        options: the arguments.
        script: path of the script.
        argv: its arguments as they were given; None for those of the command line.
        tables: the measurements by name.
    """
    command = shlex.join(["python", f"benchmarks/{Path(script).name}", *(sys.argv[1:] if argv is None else argv)])
    rows = {name: frame.astype(object).where(frame.notna(), None).to_dict("records") for name, frame in tables.items()}
    write_json(provenance.record(command=command, machine=machine(options.threads), **rows), options.out)
    print(f"\nWritten to {options.out}")


def machine(threads: int) -> dict[str, str | int | None]:
    """The processor, its cores and the torch threads in use."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.+)$", info.read_text(), re.MULTILINE) if info.exists() else []
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
    }


def show(title: str, frame: pd.DataFrame, decimals: Mapping[str, int]) -> None:
    """Prints a table under its title, with so many decimals of the columns that are named."""
    formats = {name: f"{{:,.{places}f}}".format for name, places in decimals.items()}
    formats |= {name: "{:,}".format for name in frame.select_dtypes("integer")}
    print(f"\n{title}\n{frame.to_string(index=False, formatters=formats)}", flush=True)


def run_script(main: Callable[[], None]) -> None:
    """Runs a script's main; an InputError ends it with exit code 1 and its one paragraph."""
    try:
        main()
    except InputError as error:
        sys.exit(f"Error: {error}")
