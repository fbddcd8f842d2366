"""Evaluations of untrained methods on tiny settings, and the image sets they are evaluated on."""

from functools import cache

import torch

from conftest import read_config, shrink
from oodcert.config.load import check_config
from oodcert.data.sets import id_sets, ood_sets
from oodcert.evaluations.base import Evaluation
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.models.components import build_component

OOD = ("held_out_digits", "photo_crops")


def tiny_config(**changes):
    """The tiny config with two OOD sets; changes: as of Config.changed."""
    config = shrink(read_config())
    config["data"]["ood"] = [*OOD]
    return check_config(config).changed(**changes)


CONFIG = tiny_config()


@cache
def image_sets():
    """Twelve ID images and twelve of each of two OOD sets."""
    few = id_sets(CONFIG.data, None)["id_test"].first(CONFIG.data.test_images)
    return {"id": few, **ood_sets(CONFIG.data, None)}


def evaluation(name, method, sets=None, config=CONFIG, **changes):
    """An Evaluation of one of the config's methods, by the evaluation's name; changes: of its settings."""
    torch.manual_seed(0)
    job = EVALUATIONS[name].settings(config, method)
    job = type(job).model_validate(job.as_json() | changes)
    components = {}
    if method in config.methods:
        shape, classes, networks = config.data.image_shape, config.data.num_classes, config.networks.as_json()
        names = config.methods[method].components
        components = {one: build_component(one, networks, shape, classes) for one in names}
    for component in components.values():  # untrained networks are flat
        for tensor in component.parameters():
            tensor.data.mul_(2)
    return Evaluation(method, components, image_sets() if sets is None else sets, job)


def evaluations(name, methods, **options):
    """Evaluations of several methods, which share the components that they have in common."""
    several, shared = [evaluation(name, method, **options) for method in methods], {}
    for one in several:
        one.components = {key: shared.setdefault(key, module) for key, module in one.components.items()}
    return several


def computed(name, *args, **options):
    """The rows of such an Evaluation."""
    return EVALUATIONS[name].load()(evaluation(name, *args, **options))
