"""What an iteration of Auto-PGD costs, against the package of its authors and against a bare gradient.

`python benchmarks/attack.py` on a finished digits run (`make`) times oodcert's apgd and pyautoattack's APGDAttack: the
same network and batch, the same start, and the same values to ascend, minus the log-probability of the class that the
network predicts (the package's loss "ce"); and as many forward and backward passes alone. Times are of the processor,
which other load on the machine disturbs little.
"""

from collections.abc import Callable, Sequence
from functools import partial
from time import process_time
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from common import LARGE_SHAPE, RESNET, Run, finish, load_run, parser, run_script, show, started, timings, untrained
from oodcert.attacks.apgd import apgd
from oodcert.cli.arguments import POSITIVE_INT
from oodcert.models.composition import deployed_network

EPSILON = {"linf": 8 / 255, "l2": 0.5}  # in the [0, 1] pixel scale


def main(argv: Sequence[str] | None = None) -> None:
    """Times both norms on two networks, prints the table and writes the json file."""
    arguments = parser(__doc__, images=100, out="results/benchmarks/attack.json", draws=False)
    arguments.add_argument("--iterations", type=POSITIVE_INT, default=20, help="of an attack")
    arguments.add_argument("--repetitions", type=POSITIVE_INT, default=15, help="of an attack; the fastest counts")
    options = arguments.parse_args(argv)
    run = load_run(options.config, options.directory, options.images)
    settings = {"iterations": options.iterations, "repetitions": options.repetitions, "epsilon": EPSILON}
    provenance = started(options, run.inputs, **settings)

    rows = []
    for name, (network, images) in victims(run).items():
        for norm in EPSILON:
            functions = contestants(network, images, norm, options.iterations)
            functions["bare"] = partial(gradients, network, images, options.iterations)
            seconds = timings(functions, options.repetitions, process_time)
            fastest = {f"{who}_ms": 1000 * min(each) / options.iterations for who, each in seconds.items()}
            rows.append({"network": name, "norm": norm, "images": len(images), **fastest, "seconds": seconds})
    frame = pd.DataFrame(rows)
    frame["ratio"] = frame["oodcert_ms"] / frame["package_ms"]
    frame["over_bare"] = frame["oodcert_ms"] / frame["bare_ms"]
    title = (
        "One iteration of Auto-PGD in milliseconds, the fastest of the repetitions; ratio: oodcert over the package; "
        "over_bare: over a forward and a backward pass"
    )
    decimals = {"oodcert_ms": 2, "package_ms": 2, "bare_ms": 2, "ratio": 3, "over_bare": 3}
    show(title, frame.drop(columns="seconds"), decimals)
    finish(provenance, options, __file__, argv, apgd=frame)


def victims(run: Run) -> dict[str, tuple[nn.Module, Tensor]]:
    """name -> (network, images): the run's plain classifier on its first OOD set, and a larger untrained network."""
    config = run.config
    plain = deployed_network(config.methods["plain"], run.components, config.evaluation.sigma, config.data.num_classes)
    images = run.images(config.data.ood[0])
    larger = torch.rand(-(-len(images) // 4), *LARGE_SHAPE)
    return {"plain": (plain, images), "resnet-8, 32x32": (untrained(RESNET), larger)}


def contestants(network: nn.Module, images: Tensor, norm: str, iterations: int) -> dict[str, Callable[[], Any]]:
    """who -> a function that runs the whole attack from the images: oodcert's, and that of the authors' package."""
    from pyautoattack.autopgd_base import APGDAttack

    with torch.no_grad():
        labels = network(images).argmax(1)
    package = APGDAttack(network, n_iter=iterations, norm=norm.capitalize(), eps=EPSILON[norm], device="cpu")
    package.init_hyperparam(images)

    ascended = surprise(network, labels)
    return {
        "oodcert": lambda: apgd(ascended, images, images, EPSILON[norm], iterations=iterations, norm=norm),
        "package": lambda: package.attack_single_run(images, labels, x_init=images),
    }


def surprise(network: nn.Module, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """The function that is ascended: images -> minus the log-probabilities [N] of these labels."""
    return lambda points: -network(points).log_softmax(1).gather(1, labels[:, None])[:, 0]


def gradients(network: nn.Module, images: Tensor, iterations: int) -> None:
    """As many gradients of the same function in the images, and nothing else."""
    points = images.detach().requires_grad_()
    ascended = surprise(network, torch.zeros(len(images), dtype=torch.int64))
    for _ in range(iterations):
        torch.autograd.grad(ascended(points).sum(), points)


if __name__ == "__main__":
    run_script(main)
