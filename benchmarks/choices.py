"""Choices of the CPU path, and what others would give: noise, batch norms, layout, threads, freed memory, denoiser.

`python benchmarks/choices.py` on a finished digits run (`make`): nanoseconds a value of noise generators, and
microseconds an image of networks as they are run here and otherwise. Freed memory is kept or returned for a whole
process, so those passes are timed in processes of their own.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from common import LARGE_SHAPE, RESNET, Run, finish, load_run, parser, run_script, show, started, timings, untrained
from oodcert.cli.arguments import POSITIVE_INT
from oodcert.errors import InputError
from oodcert.models.components import build_component
from oodcert.models.inference_form import folded, laid_out
from oodcert.runtime.device_noise import device_noise
from oodcert.runtime.keyed_noise import BLOCK, keyed_noise
from oodcert.runtime.memory import keep_freed_memory

SIGMA = 0.25
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
LARGER = {  # untrained
    "resnet-8, 32x32": RESNET,
    "discriminator of width 12, 32x32": {"name": "ibp_cnn_s", "width": 12},
}
UNET = {"channels": [16], "patch": 2, "timesteps": 1000}  # what an MLP of the digits profile stands for
NORMS, RETURNED = "batch norms by themselves", "freed memory returned"
PASSES = ("as it is", NORMS, RETURNED)
Row = dict[str, str | float]


def main(argv: Sequence[str] | None = None) -> None:
    """Times all choices, prints the tables and writes the json file."""
    arguments = parser(__doc__, images=None, out="results/benchmarks/choices.json", draws=False)
    add = arguments.add_argument
    add("--batch", type=POSITIVE_INT, default=200, help="images of a batch")
    add("--repetitions", type=POSITIVE_INT, default=15, help="of a timing; the median counts")
    add("--passes", choices=PASSES, help="print the seconds of a forward and backward pass, made so")
    options = arguments.parse_args(argv)
    if options.passes:
        print(json.dumps(passes(options)))
        return
    run = load_run(options.config, options.directory, 1, methods=None)
    provenance = started(options, run.inputs, batch=options.batch, repetitions=options.repetitions)

    noise = pd.DataFrame(noises(run.config.data.image_shape, options.repetitions))
    show("Noise: nanoseconds a value, in blocks of 64 draws", noise, {"ns": 1})
    networks = pd.DataFrame(alternatives(run, options))
    networks["ratio"] = networks["other_us"] / networks["us"]
    title = f"Networks: microseconds an image in batches of {options.batch}, as they are run and otherwise"
    show(title, networks, {"us": 2, "other_us": 2, "ratio": 2})
    finish(provenance, options, __file__, argv, noise=noise, networks=networks)


def noises(shape: tuple[int, ...], repetitions: int) -> list[dict[str, Any]]:
    """Rows generator, ns: keyed draws as certificates take them, and what generators alone take."""
    size, block = BLOCK * int(np.prod(shape)), (BLOCK, *shape)
    philox, sfc = (np.random.Generator(one(0)) for one in (np.random.Philox, np.random.SFC64))
    samples, index = iter(range(10**9)), torch.arange(BLOCK)
    generators = {
        "keyed, numpy's Philox": lambda: keyed_noise(0, "noise", next(samples), 0, BLOCK, shape),
        "numpy's Philox alone": lambda: philox.standard_normal(block, np.float32),
        "numpy's SFC64": lambda: sfc.standard_normal(block, np.float32),
        "torch.randn": lambda: torch.randn(block),
        "keyed, Philox of the GPU path": lambda: device_noise(0, "noise", torch.full_like(index, 3), index, shape),
    }
    seconds = timings({name: repeated(draw, 20) for name, draw in generators.items()}, repetitions)
    return [{"generator": name, "ns": 1e9 * median(each) / 20 / size} for name, each in seconds.items()]


def alternatives(run: Run, options: argparse.Namespace) -> Iterator[Row]:
    """Rows network, other choice, us and other_us: microseconds an image as it is run here, and otherwise."""
    shape = run.config.data.image_shape
    networks = {name: (run.components[name], shape) for name in ("plain", "good", "discriminator")}
    networks |= {name: (untrained(spec), LARGE_SHAPE) for name, spec in LARGER.items()}
    for name, (trained, own_shape) in networks.items():
        yield from of_network(name, trained, own_shape, options)
    yield from of_denoiser(run.components["denoiser"], shape, options)
    usual, *others = (1e6 * in_a_process(how, options) / options.batch for how in PASSES)
    for how, other in zip(PASSES[1:], others, strict=True):
        yield row("plain, forward and backward", how, usual, other)


def of_network(name: str, trained: nn.Module, shape: Sequence[int], options: argparse.Namespace) -> Iterator[Row]:
    """Other layouts, threads and batch norms of a classifier or discriminator."""
    network, images = prepared(deepcopy(trained), shape), torch.rand(options.batch, *shape)
    usual, other = forward(network, images, options), deepcopy(network)
    layout = "contiguous" if name in LARGER else "channels_last"
    other.to(memory_format=LAYOUTS[layout])
    yield row(name, layout, usual, forward(other, images, options))
    torch.set_num_threads(2)
    twice = forward(network, images, options)
    torch.set_num_threads(options.threads)
    yield row(name, "two threads, core time", usual, 2 * twice)
    if any(isinstance(module, nn.BatchNorm2d) for module in trained.modules()):
        yield row(name, NORMS, usual, forward(laid_out(deepcopy(trained), shape), images, options))


def of_denoiser(denoiser: nn.Module, shape: Sequence[int], options: argparse.Namespace) -> Iterator[Row]:
    """A UNet instead of the run's denoiser, and another layout of a UNet on larger images."""
    images, unet = torch.rand(options.batch, *shape), untrained_unet(shape)
    ours = forward(denoising(denoiser), images, options)
    yield row("denoiser", "a UNet", ours, forward(denoising(unet), images, options))
    images, unet = torch.rand(options.batch, *LARGE_SHAPE), untrained_unet(LARGE_SHAPE)
    usual = forward(denoising(unet), images, options)
    other = forward(denoising(unet.to(memory_format=torch.channels_last)), images, options)
    yield row("a UNet, 32x32", "channels_last", usual, other)


def prepared(network: nn.Module, shape: Sequence[int]) -> nn.Module:
    """The network in the form that jobs evaluate: batch norms folded, the faster memory layout."""
    return laid_out(folded(network), shape)


def untrained_unet(shape: Sequence[int]) -> nn.Module:
    """A small UNet as denoiser, with fresh weights."""
    return build_component("denoiser", {"denoiser": UNET}, shape, None).eval()


def denoising(denoiser: nn.Module) -> Callable[[Tensor], Tensor]:
    """A function that denoises a batch at SIGMA."""
    return lambda batch: denoiser(batch, SIGMA)


def row(network: str, choice: str, usual: float, other: float) -> Row:
    """A row: a network, another choice, and microseconds an image as it is run here and otherwise."""
    return {"network": network, "other choice": choice, "us": usual, "other_us": other}


def forward(network: Callable[[Tensor], Tensor], images: Tensor, options: argparse.Namespace) -> float:
    """Microseconds an image of a pass without gradients, the median of the repetitions."""

    def one_pass() -> None:
        with torch.inference_mode():
            network(images)

    return 1e6 * median(timings({"": repeated(one_pass, 5)}, options.repetitions)[""]) / 5 / len(images)


def in_a_process(how: str, options: argparse.Namespace) -> float:
    """What `passes` measures, in a process of its own."""
    command = [sys.executable, __file__, "--passes", how, "--config", options.config]
    command += ["--directory", options.directory, "--batch", options.batch, "--repetitions", options.repetitions]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"The process of passes {how} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def passes(options: argparse.Namespace) -> float:
    """Seconds of a forward and a backward pass to the images, the median of the repetitions."""
    torch.set_num_threads(options.threads)
    if options.passes != RETURNED:
        keep_freed_memory()
    run = load_run(options.config, options.directory, 1, methods=["plain"])
    network, shape = run.components["plain"], run.config.data.image_shape
    network = network if options.passes == NORMS else prepared(network, shape)
    images = torch.rand(options.batch, *shape).requires_grad_()

    def both() -> None:
        torch.autograd.grad(network(images).sum(), images)

    return median(timings({"": repeated(both, 5)}, options.repetitions)[""]) / 5


def repeated(function: Callable[[], Any], times: int) -> Callable[[], None]:
    """A function that calls another one so many times."""

    def several() -> None:
        for _ in range(times):
            function()

    return several


if __name__ == "__main__":
    run_script(main)
