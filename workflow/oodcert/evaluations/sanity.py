"""Evidence on the l-infinity attack itself: other radii and budgets, and a score whose maximum is known."""

from dataclasses import replace

import pandas as pd
import torch
from torch import nn

from oodcert.attacks import REDUCED
from oodcert.attacks.ood import linf_ensemble
from oodcert.config.method_specs import is_randomised
from oodcert.evaluations.linf import attack_linf
from oodcert.models.detector import Detector
from oodcert.runtime.keyed_noise import keyed_noise


def sanity(evaluation):
    """The attack at every radius, and at epsilon with a share of its budget, on the first images of each OOD set.

    Rows as of `attack_linf`, with the column share: of the budget's iterations and queries.
    """
    settings, frames = evaluation.settings, []
    draws = settings["budget"]["draws"] if is_randomised(settings["method_spec"]) else 1
    few = {name: image_set.first(settings["images"]) for name, image_set in evaluation.sets.items() if name != "id"}
    runs = [(epsilon, 1.0) for epsilon in settings["epsilons"]] + [(settings["epsilon"], REDUCED)]
    for epsilon, share in runs:
        changed = settings | {"epsilon": epsilon, "budget": _reduced(settings["budget"], share)}
        changed["batch_size"] = min(settings["batch_size"], draws * settings["images"])  # less would be padding
        run = replace(evaluation, sets=few, settings=changed)
        frames.append(attack_linf(run).assign(share=share))
        evaluation.calls += run.calls
    return pd.concat(frames, ignore_index=True)


def attack_linear(evaluation):
    """The attack on the score w·x, whose maximum in the ball and the pixel range is known: set, sample, clean,
    attacked, maximum."""
    settings, frames = evaluation.settings, []
    epsilon, budget = settings["epsilon"], settings["budget"]
    for name, ids in evaluation.ood():
        images = evaluation.images(name)
        weight = torch.from_numpy(keyed_noise(settings["seed"], "attack_linear", 0, 0, 1, images.shape[1:])[0])
        detector = linear_detector(weight.to(images.device))
        candidates = linf_ensemble(detector, images, ids, name, epsilon, **budget, seed=settings["seed"])
        with torch.inference_mode():
            scores = torch.stack([detector.raw_score(found) for found in (images, *candidates.values())])
        highest = torch.where(weight > 0, (images + epsilon).clamp(max=1), (images - epsilon).clamp(min=0))
        columns = {"clean": scores[0], "attacked": scores.amax(0), "maximum": detector.raw_score(highest)}
        columns = {key: value.detach().cpu().double().numpy() for key, value in columns.items()}
        frames.append(pd.DataFrame({"method": "linear", "set": name, "sample": ids, "epsilon": epsilon, **columns}))
    return pd.concat(frames, ignore_index=True)


def linear_detector(weight):
    """A detector whose score is weight·x; weight: [C, H, W]."""
    layer = nn.Linear(weight.numel(), 1, bias=False, device=weight.device)
    layer.weight.data[:] = weight.reshape(1, -1)
    return Detector(nn.Sequential(nn.Flatten(), layer), score=lambda logits: logits[:, 0])


def _reduced(budget, share):
    """The budget with this share of its iterations and queries, each at least one."""
    less = {key: dict(part) if isinstance(part, dict) else part for key, part in budget.items()}
    for part, key in (("apgd", "iterations"), ("pgd", "iterations"), ("square", "queries")):
        less[part][key] = max(1, round(share * less[part][key]))
    return less
