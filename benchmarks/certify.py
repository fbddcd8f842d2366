"""What oodcert.certify costs beside the bare network, and against a plain loop.

`python benchmarks/certify.py` on a finished digits run (`make`) compares noisy images a second, in batches of several
sizes: of certify with fixed sampling; of the network alone, on one batch again and again; and of a loop in the manner
of the code of Cohen et al. (2019): image by image, eager, in float32, with noise by torch.randn_like and votes that
are counted on the host.
"""

from collections.abc import Callable, Sequence
from math import ceil
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from common import (
    LARGE_CLASSES,
    LARGE_SHAPE,
    RESNET,
    Run,
    finish,
    load_run,
    parser,
    run_script,
    show,
    started,
    timings,
    untrained,
)
from oodcert import DenoisedNetwork, Detector, certify
from oodcert.cli.arguments import POSITIVE_INT
from oodcert.models.components import build_component
from oodcert.models.composition import smoothed_network
from oodcert.runtime.keyed_noise import keyed_noise

SIGMA = 0.25  # noise, in the [0, 1] pixel scale
ALPHA = 0.01
BATCH_SIZES = (128, 256, 500)  # the last one is what certify takes by itself
DENOISER = {"channels": [32, 32], "patch": 2, "timesteps": 1000}  # before the larger network
METHODS = ("plain", "distro")


def main(argv: Sequence[str] | None = None) -> None:
    """Times every network, prints the table and writes the json file."""
    arguments = parser(__doc__, images=8, out="results/benchmarks/certify.json")
    arguments.set_defaults(n=5000)
    arguments.add_argument("--repetitions", type=POSITIVE_INT, default=5, help="of each timing; the median counts")
    arguments.add_argument("--device", default="cpu", help="where the networks run")
    options = arguments.parse_args(argv)
    run = load_run(options.config, options.directory, options.images, METHODS)
    settings = {"repetitions": options.repetitions, "sigma": SIGMA, "alpha": ALPHA, "device": options.device}
    provenance = started(options, run.inputs, **settings)

    frames = []
    for name, (network, shape) in networks(run).items():
        large = shape == LARGE_SHAPE
        count, n = (1, ceil(options.n / 2)) if large else (options.images, options.n)
        images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(0)).to(options.device)
        frames.append(overhead(network.to(options.device), images, n, options.repetitions).assign(network=name))
    overheads = pd.concat(frames)
    overheads = overheads[["network", *overheads.columns.drop("network")]]
    decimals = {"best_per_s": 0, "certify_per_s": 0, "loop_per_s": 0, "of_best": 3, "over_eager": 2, "noise": 3}
    title = "Noisy images a second; of_best: certify over the bare network; over_eager: certify over the loop"
    show(title, overheads.drop(columns="seconds"), decimals)
    finish(provenance, options, __file__, argv, overhead=overheads)


def networks(run: Run) -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """name -> (network, image shape): two of the run's methods, and a denoised network that is larger and untrained."""
    data, methods = run.config.data, run.config.methods
    small = {
        name: (smoothed_network(methods[name], run.components, SIGMA, data.num_classes), data.image_shape)
        for name in METHODS
    }
    resnet = untrained(RESNET)
    denoiser = build_component("denoiser", {"denoiser": DENOISER}, LARGE_SHAPE, LARGE_CLASSES).eval()
    return {**small, "denoised resnet-8, 32x32": (DenoisedNetwork(resnet, denoiser, SIGMA), LARGE_SHAPE)}


def overhead(network: nn.Module, images: Tensor, n: int, repetitions: int) -> pd.DataFrame:
    """A row per batch size, for n noisy copies of each image: rates of the bare network, certify and the loop.

    best_per_s: of the bare network at its best batch size; noise: time of the same draws alone, as a share of
    certify's; seconds: all repetitions, by what was timed.
    """
    total = len(images) * n
    functions: dict[str, Callable[[], Any]] = {}
    for size in BATCH_SIZES:
        functions |= {f"{name} {size}": run for name, run in contestants(network, images, n, size).items()}
    seconds = timings(functions, repetitions)
    middle = {name: median(each) for name, each in seconds.items()}
    bare = {size: ceil(total / size) * size / middle[f"bare {size}"] for size in BATCH_SIZES}
    best = max(bare, key=lambda size: bare[size])
    rows = []
    for size in BATCH_SIZES:
        certified, loop = (total / middle[f"{name} {size}"] for name in ("certify", "loop"))
        rows.append(
            {
                "batch": size,
                "images": total,
                "best_batch": best,
                "best_per_s": bare[best],
                "certify_per_s": certified,
                "loop_per_s": loop,
                "of_best": certified / bare[best],
                "over_eager": certified / loop,
                "noise": middle[f"noise {size}"] / middle[f"certify {size}"],
                "seconds": {name: each for name, each in seconds.items() if name.endswith(f" {size}")},
            }
        )
    return pd.DataFrame(rows)


def contestants(network: nn.Module, images: Tensor, n: int, size: int) -> dict[str, Callable[[], Any]]:
    """name -> a function to be timed: the bare network, certify, the loop, and the draws alone."""
    shape = images.shape[1:]
    batch = torch.rand(size, *shape, device=images.device)
    detector = Detector(network)

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(ceil(len(images) * n / size)):
                output = network(batch)
        output.cpu()  # waits for the device

    def noise() -> None:
        for position in range(len(images)):
            for first in range(0, n, size):
                keyed_noise(0, "", position, first, min(size, n - first), tuple(shape))

    return {
        "bare": bare,
        "certify": lambda: certify(
            detector, images, SIGMA, n=n, alpha=ALPHA, bounds=["percentile"], batch_size=size, device=images.device
        ),
        "loop": lambda: [votes(network, image, SIGMA, n, size) for image in images],
        "noise": noise,
    }


def votes(network: nn.Module, image: Tensor, sigma: float, n: int, batch_size: int) -> np.ndarray:
    """How many of n noisy copies of an image [C, H, W] each output takes, in the manner of Cohen et al. (2019)."""
    drawn = []
    with torch.no_grad():
        for first in range(0, n, batch_size):
            copies = image.repeat(min(batch_size, n - first), 1, 1, 1)
            outputs = network(copies + sigma * torch.randn_like(copies))
            drawn.append(np.bincount(outputs.argmax(1).cpu().numpy(), minlength=outputs.shape[1]))
    return np.sum(drawn, 0)


if __name__ == "__main__":
    run_script(main)
