"""Peak memory of oodcert.certify against draws, images and methods.

`python benchmarks/memory.py` certifies by a tiny untrained network, each point in a process of its own, and reads the
most memory that it has held (VmHWM of Linux), before and after. What the draws themselves take, a float64 for each draw
and method of the images under way, must stay; nothing else may grow.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from common import finish, parser, run_script, show, started, untrained
from oodcert import Detector, certify
from oodcert.cli.arguments import POSITIVE_INT
from oodcert.errors import InputError

SHAPE, NETWORK = (1, 8, 8), {"name": "cnn", "width": 4}
BATCH_SIZE = 500
MIB = 2**20


def main(argv: Sequence[str] | None = None) -> None:
    """Measures every point, prints the table and writes the json file."""
    arguments = parser(__doc__, images=None, out="results/benchmarks/memory.json", draws=False)
    add = arguments.add_argument
    add("--draws", type=POSITIVE_INT, nargs="+", default=[10_000, 100_000, 1_000_000], help="of one image")
    add("--images", type=POSITIVE_INT, nargs="+", default=[1, 10, 100], help="with the fewest draws")
    add("--methods", type=POSITIVE_INT, nargs="+", default=[1, 4, 8], help="with the second number of draws")
    add("--point", type=POSITIVE_INT, nargs=3, metavar=("N", "IMAGES", "METHODS"), help="measure this one, here")
    options = arguments.parse_args(argv)
    if options.point:
        print(json.dumps(point(*options.point)))
        return
    fewest, second = options.draws[0], options.draws[min(1, len(options.draws) - 1)]
    points = [(n, 1, 1) for n in options.draws]
    points += [(fewest, count, 1) for count in options.images] + [(second, 1, count) for count in options.methods]
    provenance = started(options, [], batch_size=BATCH_SIZE, network=NETWORK)
    frame = pd.DataFrame(measure(*one) for one in dict.fromkeys(points))
    title = f"Peak memory in MiB, its growth by certify, and by draw and method; batches of {BATCH_SIZE}"
    show(title, frame, {"peak_mib": 1, "growth_mib": 1, "draws_mib": 1, "bytes_a_draw": 1})
    finish(provenance, options, __file__, argv, memory=frame)


def measure(n: int, images: int, methods: int) -> dict[str, float]:
    """A point, in a process of its own. draws_mib: of one image's draws, a float64 each."""
    command = [sys.executable, __file__, "--point", *map(str, (n, images, methods))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"The process for n = {n}, {images} images, {methods} methods failed:\n{done.stderr}")
    before, after = json.loads(done.stdout)
    return {
        "n": n,
        "images": images,
        "methods": methods,
        "peak_mib": after / MIB,
        "growth_mib": (after - before) / MIB,
        "draws_mib": 8 * n * methods / MIB,
        "bytes_a_draw": (after - before) / (n * methods),
    }


def point(n: int, images: int, methods: int) -> list[int]:
    """Bytes of this process's peak before certify, which a batch has warmed up, and after it."""
    torch.set_num_threads(1)
    detectors = {str(index): Detector(untrained(NETWORK, SHAPE, 3)) for index in range(methods)}
    pixels = torch.rand(images, *SHAPE, generator=torch.Generator().manual_seed(0))
    peaks = []
    for draws, count in ((BATCH_SIZE, 1), (n, images)):
        certify(detectors, pixels[:count], 0.25, n=draws, bounds=["percentile"], batch_size=BATCH_SIZE)
        peaks.append(peak())
    return peaks


def peak() -> int:
    """The most memory in bytes that this process has held since it began. (ru_maxrss counts the parent's, too.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    run_script(main)
