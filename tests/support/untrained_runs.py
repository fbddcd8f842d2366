"""Evaluations of untrained methods on tiny settings, and the image sets they are evaluated on."""

from functools import cache

import torch

from conftest import read_config, shrink
from oodcert.config.method_specs import components_of
from oodcert.data.sets import id_sets, ood_sets
from oodcert.evaluations.base import Evaluation
from oodcert.models.components import build_component

CONFIG = shrink(read_config())
SETTINGS = {
    **{key: CONFIG["evaluation"][key] for key in ("sigma", "epsilon", "draws", "batch_size")},
    "seed": 0,
    "num_classes": CONFIG["data"]["num_classes"],
    "test_images": CONFIG["data"]["test_images"],
}


@cache
def image_sets():
    """Twelve ID images and twelve of each of two OOD sets."""
    inside, outside = id_sets(CONFIG.data, None)["id_test"], ood_sets(CONFIG.data, None)
    few = inside.first(CONFIG["data"]["test_images"])
    return {"id": few, **{name: outside[name] for name in ("held_out_digits", "photo_crops")}}


def evaluation(method, sets=None, **settings):
    """An Evaluation of one of the config's methods, or of a method_spec; settings: beside those of all evaluations."""
    torch.manual_seed(0)
    method_spec = CONFIG["methods"][method] if isinstance(method, str) else method
    shape, classes = CONFIG["data"]["image_shape"], CONFIG["data"]["num_classes"]
    parts = {part: build_component(part, CONFIG["networks"], shape, classes) for part in components_of(method_spec)}
    for part in parts.values():  # untrained networks are flat
        for tensor in part.parameters():
            tensor.data.mul_(2)
    return Evaluation(
        str(method), parts, image_sets() if sets is None else sets, {**SETTINGS, "method_spec": method_spec, **settings}
    )


def evaluations(methods, **settings):
    """Evaluations of several methods, which share the parts that they have in common."""
    found, shared = [evaluation(method, **settings) for method in methods], {}
    for one in found:
        one.parts = {part: shared.setdefault(part, module) for part, module in one.parts.items()}
    return found


def published_settings(config, method):
    """What the evaluation `published` needs of a config beside the settings of all evaluations."""
    evaluation, method_spec = config["evaluation"], config["methods"][method]
    return {
        **evaluation["published"],
        "budget": {key: evaluation["attack_linf"][key] for key in ("apgd", "pgd", "draws")},
        "bounds": evaluation["certify_l2"]["bounds"],
        "alpha": evaluation["certify_l2"]["alpha"],
        "epsilons": evaluation["attack_id"]["epsilons"],
        "autoattack": evaluation["attack_id"]["randomised" if method_spec["denoiser"] else "deterministic"],
    }
