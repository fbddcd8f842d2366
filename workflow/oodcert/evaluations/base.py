"""What every evaluation works on, and the scores of the method as it is deployed."""

from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from oodcert.data.imageset import ImageSet
from oodcert.execution.shards import QUANTITIES
from oodcert.models.checks import checked_logits
from oodcert.models.detector import Detector
from oodcert.models.wrappers import noisy_modules, replayed_logits
from oodcert.runtime.keyed_noise import keyed_batch, keyed_noise
from oodcert.runtime.memory import with_oom_backoff
from oodcert.runtime.padding import images_per_batch


@dataclass
class Evaluation:
    """What an evaluation works on.

    method: its name; parts: name -> trained module; sets: "id" and the OOD sets' names -> ImageSet; settings: seed,
    num_classes, batch_size, the method's method_spec (see oodcert.config.method_specs), and what the one evaluation needs (see its
    rule's params). quantities: those of the evaluation `published` that are computed; ood_names: of all OOD
    sets, and id_set: all ID images, where `sets` has but some of them. ceilings: of certify_l2, by sigma, which the
    evaluations of its pieces compute once. calls counts the images that went through the method's network.
    """

    method: str
    parts: dict
    sets: dict
    settings: dict
    device: str = "cpu"
    quantities: tuple = tuple(QUANTITIES)
    ood_names: tuple | None = None
    id_set: ImageSet | None = None
    ceilings: dict = field(default_factory=dict)
    calls: int = field(default=0, init=False)

    def __post_init__(self):
        if self.ood_names is None:
            self.ood_names = tuple(name for name, _ in self.ood())
        if self.id_set is None:
            self.id_set = self.sets.get("id")
        self.parts = {name: module.to(self.device) for name, module in self.parts.items()}

    def images_per_batch(self, draws=1):
        """How many images share a batch, whatever part of a set is evaluated here."""
        return images_per_batch(self.settings["batch_size"], draws, self.settings["test_images"])

    def images(self, name):
        return torch.from_numpy(self.sets[name].floats()).to(self.device)

    def ood(self):
        """(name, ids) of the OOD sets."""
        return [(name, image_set.ids) for name, image_set in self.sets.items() if name != "id"]

    def build(self, builder, sigma):
        """The method's network, by one of the builders of oodcert.config.method_specs."""
        return builder(self.settings["method_spec"], self.parts, sigma, self.settings["num_classes"])

    @contextmanager
    def network(self, builder, sigma):
        """The same, and the images that pass through it are counted."""
        network = self.build(builder, sigma)
        hook = network.register_forward_hook(self._count)
        try:
            yield network
        finally:
            hook.remove()

    def detector(self, network):
        return Detector(network, self.settings["method_spec"]["score"])

    def _count(self, _, inputs, __):
        self.calls += len(inputs[0])


def score_deployed(evaluation, detector, images, name, purpose="clean"):
    """Scores [m, N] of the deployed detector and predictions [N]; m noise draws for a randomised method, else 1.

    purpose: keys the noise; scores that are to be compared have the same.
    """
    settings, ids = evaluation.settings, evaluation.sets[name].ids
    draws = settings["draws"] if noisy_modules(detector.network) else 1
    scores, predictions = [], []

    def logits(index):
        batch = images[index]
        if not noisy_modules(detector.network):
            return checked_logits(detector.network, batch)[:, None]
        noise = keyed_batch(keyed_noise, settings["seed"], f"{purpose}/{name}", ids[index], draws, batch.shape[1:])
        return replayed_logits(detector.network, batch, torch.from_numpy(noise).to(batch.device)).transpose(0, 1)

    compute = with_oom_backoff(logits)
    with torch.inference_mode():
        for index, real in chunks(ids, evaluation.images_per_batch(draws)):
            outputs = compute(index).transpose(0, 1)
            scores.append(torch.stack([detector.score_of(one.double()) for one in outputs])[:, :real])
            classes = outputs[:, :, : settings["num_classes"]]
            predictions.append(classes.softmax(2).mean(0).argmax(1)[:real])
    return torch.cat(scores, 1).cpu().numpy(), torch.cat(predictions).cpu().numpy()


def chunks(ids, size, progress=None):
    """(positions, how many of them are real) of batches of one fixed size; the last one repeats its last image.

    progress: a label for a progress bar.
    """
    for start in tqdm(range(0, len(ids), size), desc=progress, unit="batch", disable=not progress):
        index = np.arange(start, start + size)
        yield np.minimum(index, len(ids) - 1), min(size, len(ids) - start)


def frame(evaluation, name, **columns):
    return pd.DataFrame({"method": evaluation.method, "set": name, **columns})
