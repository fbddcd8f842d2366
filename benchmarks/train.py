"""Training images a second, against a bare torch loop.

`python benchmarks/train.py` trains a plain classifier by oodcert.training and by a loop of plain torch: the same
network, start, batches in the same order, augmentation, loss and optimizer, but no learning curve, no check of the
loss, no progress and no checkpoint. Both end at the same weights.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from common import LARGE_CLASSES, LARGE_SHAPE, RESNET, finish, parser, run_script, show, started, timings, untrained
from oodcert.cli.arguments import POSITIVE_INT
from oodcert.config.load import read_configs
from oodcert.config.models import Config, Recipe
from oodcert.runtime.keyed_noise import derive_seed
from oodcert.training import plain
from oodcert.training.augment import augment
from oodcert.training.loop import Data

MILESTONES, DECAY = (0.5, 0.75, 0.9), 0.1  # of the learning rate


def main(argv: Sequence[str] | None = None) -> None:
    """Times two networks, prints the table and writes the json file."""
    arguments = parser(__doc__, images=1280, out="results/benchmarks/train.json", draws=False)
    arguments.add_argument("--epochs", type=POSITIVE_INT, default=4, help="of the small network; the large one has one")
    arguments.add_argument("--repetitions", type=POSITIVE_INT, default=7, help="of a training; the median counts")
    options = arguments.parse_args(argv)
    config = read_configs([options.config])
    provenance = started(options, [], repetitions=options.repetitions, epochs=options.epochs)

    rows = []
    for name, (network, data, recipe) in trainings(config, options.images, options.epochs).items():
        seconds = timings(contestants(network, data, recipe), options.repetitions)
        trained = len(data.images) * recipe.epochs
        rates = {f"{who}_per_s": trained / median(each) for who, each in seconds.items()}
        rows.append({"network": name, "batch": recipe.batch_size, **rates, "seconds": seconds})
    frame = pd.DataFrame(rows)
    frame["ratio"] = frame["oodcert_per_s"] / frame["bare_per_s"]
    title = "Training images a second, the median of the repetitions; ratio: oodcert over the bare loop"
    show(title, frame.drop(columns="seconds"), {"oodcert_per_s": 0, "bare_per_s": 0, "ratio": 3})
    finish(provenance, options, __file__, argv, train=frame)


def trainings(config: Config, images: int, epochs: int) -> dict[str, tuple[nn.Module, Data, Recipe]]:
    """name -> (network, random images, recipe): the profile's plain classifier, and a larger one."""
    shape, classes = config.data.image_shape, config.data.num_classes
    recipe = config.training["plain"].changed(epochs=epochs)
    larger = recipe.changed(epochs=1, batch_size=128, augmentation="flip_crop")
    small = untrained(config.networks.classifier.as_json(), shape, classes)
    return {
        f"plain of {config.profile}": (small, random_data(images, shape, classes), recipe),
        "resnet-8, 32x32": (untrained(RESNET), random_data(images, LARGE_SHAPE, LARGE_CLASSES), larger),
    }


def random_data(count: int, shape: Sequence[int], classes: int) -> Data:
    """Images and labels at random, without outliers."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, *shape), generator=generator, dtype=torch.uint8)
    return Data(images, torch.randint(classes, (count,), generator=generator), images[:0])


def contestants(network: nn.Module, data: Data, recipe: Recipe) -> dict[str, Callable[[], nn.Module]]:
    """who -> a function that trains a copy of the network and returns it."""

    def ours() -> nn.Module:
        trained = deepcopy(network)
        with TemporaryDirectory() as folder:
            plain.train(trained, {}, data, recipe, seed=0, checkpoint=Path(folder, "checkpoint"))
        return trained

    return {"oodcert": ours, "bare": lambda: bare(deepcopy(network), data, recipe)}


def bare(network: nn.Module, data: Data, recipe: Recipe) -> nn.Module:
    """Trains the network as oodcert.training.plain does, by plain torch."""
    optimizer = torch.optim.SGD(
        network.parameters(), recipe.learning_rate, momentum=0.9, weight_decay=recipe.weight_decay, nesterov=True
    )
    steps = [round(share * recipe.epochs) for share in MILESTONES]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, steps, DECAY)
    network.train()
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(data.images), generator=generator("order", epoch))
        for step, index in enumerate(order.split(recipe.batch_size)):
            images = augment(data.images[index], recipe.augmentation, generator("augmentation", epoch, step))
            loss = cross_entropy(network(images.float().div(255)), data.labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return network


def generator(*names: str | int) -> torch.Generator:
    """The random numbers that oodcert.training takes with seed 0."""
    return torch.Generator().manual_seed(derive_seed(0, *names))


if __name__ == "__main__":
    run_script(main)
