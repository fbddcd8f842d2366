"""What every evaluation works on, and the scores of the method as it is deployed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from oodcert.config.method_specs import MethodSpec
from oodcert.data.imageset import ImageSet
from oodcert.evaluations.settings import DeployedJob, MethodJob, NetworkJob
from oodcert.models.calls import without_gradients
from oodcert.models.checks import checked_logits
from oodcert.models.detector import Detector
from oodcert.models.wrappers import noisy_modules, replayed_logits
from oodcert.runtime.keyed_noise import keyed_batch, keyed_noise
from oodcert.runtime.memory import with_oom_backoff
from oodcert.runtime.padding import images_per_batch

J = TypeVar("J", bound=NetworkJob)
NetworkBuilder = Callable[[MethodSpec, dict[str, nn.Module], float, int], nn.Module]


@dataclass
class Evaluation(Generic[J]):
    """What an evaluation works on.

    Attributes:
        method: name of the method.
        components: name -> trained module.
        sets: "id" and the names of the OOD sets -> ImageSet.
        settings: what decides the rows.
        device: "cpu" or "cuda".
        quantities: those that are computed; () for all.
        ood_names: names of all OOD sets, where `sets` has only some.
        id_set: all ID images, where `sets` has only some.
        lower_bound_caps: of certify_l2, by sigma, which the evaluations of its partial results compute once.
        calls: images that went through the method's network so far.
    """

    method: str
    components: dict[str, nn.Module]
    sets: dict[str, ImageSet]
    settings: J
    device: str = "cpu"
    quantities: tuple[str, ...] = ()
    ood_names: tuple[str, ...] | None = None
    id_set: ImageSet | None = None
    lower_bound_caps: dict[float, pd.DataFrame] = field(default_factory=dict)
    calls: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.ood_names is None:
            self.ood_names = tuple(name for name, _ in self.ood())
        if self.id_set is None:
            self.id_set = self.sets.get("id")
        self.components = {name: module.to(self.device) for name, module in self.components.items()}

    def images(self, name: str) -> Tensor:
        """The images of a set on the device: float32 [N, C, H, W] in [0, 1]."""
        return torch.from_numpy(self.sets[name].floats()).to(self.device)

    def ood(self) -> list[tuple[str, np.ndarray]]:
        """(name, ids) of the OOD sets."""
        return [(name, image_set.ids) for name, image_set in self.sets.items() if name != "id"]

    def build(self: Evaluation[Any], builder: NetworkBuilder, sigma: float) -> nn.Module:
        """The method's network, by one of the builders of oodcert.models.composition."""
        return builder(self.settings.method_spec, self.components, sigma, self.settings.num_classes)

    @contextmanager
    def network(self: Evaluation[Any], builder: NetworkBuilder, sigma: float) -> Iterator[nn.Module]:
        """The same, and the images that pass through it are counted."""
        network = self.build(builder, sigma)
        hook = network.register_forward_hook(self._count)
        try:
            yield network
        finally:
            hook.remove()

    def detector(self: Evaluation[Any], network: nn.Module) -> Detector:
        """A network with the method's score."""
        return Detector(network, self.settings.method_spec.score)

    def _count(self, _: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
        self.calls += len(inputs[0])


def batch_of_images(settings: MethodJob, draws: int = 1) -> int:
    """How many images share a batch, however few images of a set are evaluated here."""
    return images_per_batch(settings.batch_size, draws, settings.test_images)


def score_deployed(
    evaluation: Evaluation[Any], detector: Detector, images: Tensor, name: str, purpose: str = "clean"
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and predictions of the method as it is deployed.

    Args:
        evaluation: whose settings are a DeployedJob.
        detector: the deployed detector.
        images: [N, C, H, W], clean or perturbed images of a set.
        name: of the set.
        purpose: keys the noise. Scores that are to be compared have the same.

    Returns:
        Scores [m, N], with m noise draws for a randomised method and m = 1 for others, and predictions [N].
    """
    settings: DeployedJob = evaluation.settings
    ids, noisy = evaluation.sets[name].ids, noisy_modules(detector.network)
    draws = settings.draws if noisy else 1
    scores, predictions = [], []

    def logits(index: np.ndarray) -> Tensor:
        batch = images[index]
        if not noisy:
            return checked_logits(detector.network, batch)[:, None]
        noise = keyed_batch(keyed_noise, settings.seed, f"{purpose}/{name}", ids[index], draws, tuple(batch.shape[1:]))
        return replayed_logits(detector.network, batch, torch.from_numpy(noise).to(batch.device)).transpose(0, 1)

    compute = with_oom_backoff(logits)
    with without_gradients():
        for index, real in batches(ids, batch_of_images(settings, draws)):
            outputs = compute(index).transpose(0, 1)
            scores.append(torch.stack([detector.score_logits(one) for one in outputs])[:, :real])
            classes = outputs[:, :, : settings.num_classes].double()
            predictions.append(classes.softmax(2).mean(0).argmax(1)[:real])
    return torch.cat(scores, 1).cpu().numpy(), torch.cat(predictions).cpu().numpy()


def batches(ids: np.ndarray, size: int, progress: str | None = None) -> Iterator[tuple[np.ndarray, int]]:
    """Divides images into batches of one fixed size. The last batch repeats its last image until it is full.

    Args:
        ids: of the images [N].
        size: images of a batch.
        progress: label of a progress bar; None: no bar is shown.

    Yields:
        (positions [size], how many of them are not repeated) of each batch.
    """
    for start in tqdm(range(0, len(ids), size), desc=progress, unit="batch", disable=not progress):
        index = np.arange(start, start + size)
        yield np.minimum(index, len(ids) - 1), min(size, len(ids) - start)


def rows(evaluation: Evaluation[Any], name: str, **columns: Any) -> pd.DataFrame:
    """Rows of a method and a set."""
    return pd.DataFrame({"method": evaluation.method, "set": name, **columns})
