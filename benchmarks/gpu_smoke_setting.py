"""What the smoke run works on: a tiny configuration, random images and untrained networks: it needs no data."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from oodcert.config.load import check_config, merged_files
from oodcert.config.models import Config
from oodcert.data.imageset import ImageSet
from oodcert.evaluations.base import Evaluation
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.models.components import build_component

ROOT = Path(__file__).resolve().parents[1]
OOD = ("held_out_digits", "photo_crops")  # names of the digits profile
PROFILE = "smoke"


class Failed(Exception):
    """A step's finding, in one sentence."""


@dataclass(frozen=True)
class Smoke:
    """A smoke run.

    Attributes:
        device: "cuda", or "cpu" where the script itself is tried.
        tiny: whether sizes are as small as can be.
        rates: numbers of a step that a later one compares with.
    """

    device: str
    tiny: bool
    rates: dict[str, float] = field(default_factory=dict)

    @cached_property
    def config(self) -> Config:
        """The digits profile, with few images and small budgets."""
        values = merged_files([ROOT / "config" / "config.yaml"])
        images = 4 if self.tiny else 12
        values |= {"profile": PROFILE, "device": self.device}
        values["data"].update(test_images=images, accuracy_images=images, ood=[*OOD])
        few = {"epochs": 2, "attack_iterations": 1, "queue": 4, "pool": 20}
        for settings in values["training"].values():
            settings.update({key: value for key, value in few.items() if key in settings})
        evaluation, budget = values["evaluation"], {"iterations": 2, "restarts": 1}
        evaluation.update(batch_size=32, draws=4, sigma=0.25, authors_code={"images": 3, "n0": 4, "n": 8})
        evaluation["attack_linf"] = {"apgd": budget, "pgd": dict(budget), "square": {"queries": 4}, "draws": 2}
        evaluation["sanity"].update(images=2, epsilons=[0.05, 1.0])
        evaluation["certify_l2"].update(sigmas=[0.25], radii=[0.0, 0.25], n=64)
        evaluation["attack_l2"].update(iterations=2, draws=2, n=16)
        evaluation["certify_id"].update(sigmas=[0.25], n0=8, n=32)
        evaluation["attack_id"]["epsilons"] = [0.03]
        for one in (evaluation["attack_id"]["deterministic"], evaluation["attack_id"]["randomised"]):
            one.update(iterations=2, queries=4, eot=1)
        return check_config(values)

    @cached_property
    def sets(self) -> dict[str, ImageSet]:
        """Random images: "id" and the OOD sets."""
        return {name: self.random_set(name, self.config.data.test_images) for name in ("id", *OOD)}

    def random_set(self, name: str, count: int) -> ImageSet:
        """A set of random images, with labels if it is "id"."""
        generator, (channels, height, width) = np.random.default_rng(len(name)), self.config.data.image_shape
        images = generator.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
        labels = np.arange(count) % self.config.data.num_classes if name == "id" else np.full(count, -1)
        return ImageSet(name, images, labels.astype(np.int64), np.arange(count))

    def components(self, method: str) -> dict[str, nn.Module]:
        """The method's components with fresh weights, always the same ones."""
        torch.manual_seed(0)
        shape, classes = self.config.data.image_shape, self.config.data.num_classes
        networks, names = self.config.networks.as_json(), self.config.methods[method].components
        made = {name: build_component(name, networks, shape, classes).eval() for name in names}
        for component in made.values():  # fresh networks are flat
            for tensor in component.parameters():
                tensor.data.mul_(2)
        return made

    def evaluation(self, name: str, method: str, device: str, **changes: Any) -> Evaluation[Any]:
        """An evaluation of untrained networks on a device; changes: of its settings."""
        job = EVALUATIONS[name].settings(self.config, method)
        job = type(job).model_validate(job.as_json() | changes)
        components = self.components(method) if EVALUATIONS[name].methods else {}
        return Evaluation(method, components, self.sets, job, device)
