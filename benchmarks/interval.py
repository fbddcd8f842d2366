"""What interval bounds cost, against plain passes of the same network.

`python benchmarks/interval.py` on a finished digits run (`make`), in float32: oodcert.interval_bounds of a batch,
against one forward pass of it. Two passes are the limit: each layer is applied to the centre and to the half-width.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn

from common import (
    LARGE_CLASSES,
    LARGE_SHAPE,
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
from oodcert import interval_bounds
from oodcert.cli.arguments import POSITIVE_INT

EPSILON = 0.05
BATCH_SIZES = (1, 32, 128, 500)


def main(argv: Sequence[str] | None = None) -> None:
    """Times every network and batch size, prints the table and writes the json file."""
    arguments = parser(__doc__, images=None, out="results/benchmarks/interval.json", draws=False)
    arguments.add_argument("--repetitions", type=POSITIVE_INT, default=15, help="of each timing; the fastest counts")
    arguments.add_argument(
        "--batches", type=POSITIVE_INT, nargs="+", default=BATCH_SIZES, metavar="B", help="batch sizes"
    )
    arguments.add_argument(
        "--width", type=POSITIVE_INT, default=32, help="of the larger networks; the paper's are of 128"
    )
    options = arguments.parse_args(argv)
    run = load_run(options.config, options.directory, 1, methods=None)
    settings = {"repetitions": options.repetitions, "epsilon": EPSILON, "width": options.width}
    provenance = started(options, run.inputs, **settings)

    frame = pd.DataFrame(
        {"network": name, "batch": batch, **compare(network, shape, batch, options.repetitions)}
        for name, (network, shape) in networks(run, options.width).items()
        for batch in options.batches
    )
    frame["ratio"] = frame["bounds_ms"] / frame["forward_ms"]
    title = "Milliseconds of a batch, the fastest of the repetitions; ratio: bounds over one forward pass (limit 2)"
    show(title, frame.drop(columns="seconds"), {"forward_ms": 2, "bounds_ms": 2, "ratio": 2})
    finish(provenance, options, __file__, argv, interval=frame)


def networks(run: Run, width: int) -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """name -> (network, image shape): the run's discriminator and GOOD network, and larger untrained ones."""
    networks: dict[str, tuple[nn.Module, tuple[int, ...]]] = {}
    for name, network, outputs in (("discriminator", "ibp_cnn_s", 1), ("good", "ibp_cnn_xl", LARGE_CLASSES)):
        networks[name] = run.components[name], run.config.data.image_shape
        larger = untrained({"name": network, "width": width}, outputs=outputs)
        networks[f"{name} of width {width}, 32x32"] = larger, LARGE_SHAPE
    return networks


def compare(network: nn.Module, shape: Sequence[int], batch: int, repetitions: int) -> dict[str, Any]:
    """Milliseconds of a forward pass and of the bounds, and the seconds of all repetitions."""
    images = torch.rand(batch, *shape, generator=torch.Generator().manual_seed(0))
    lower, upper = (images - EPSILON).clamp(min=0), (images + EPSILON).clamp(max=1)
    with torch.no_grad():
        functions = {"forward": lambda: network(images), "bounds": lambda: interval_bounds(network, lower, upper)}
        seconds = timings(functions, repetitions)
    return {**{f"{name}_ms": 1000 * min(each) for name, each in seconds.items()}, "seconds": seconds}


if __name__ == "__main__":
    run_script(main)
