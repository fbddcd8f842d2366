"""The quantities of the authors' code but for votes: scores, bounds, attacks and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from oodcert.attacks.autoattack import autoattack
from oodcert.authors_code import networks
from oodcert.authors_code.attack import authors_code_ensemble
from oodcert.authors_code.bounds import joined, linf_bound
from oodcert.authors_code.flags import LOADER_BATCH, NOISE_NAME, protocol
from oodcert.evaluations.authors_code import QUANTITIES, SPEC, AuthorsCodeJob
from oodcert.evaluations.authors_code.variants import Flags, opened, quantity_rows, variants
from oodcert.evaluations.authors_code.votes import votes
from oodcert.evaluations.base import Evaluation, score_deployed
from oodcert.evaluations.row_order import ordered
from oodcert.models.wrappers import ClassLogits
from oodcert.runtime.keyed_noise import derive_seed

Authors = Evaluation[AuthorsCodeJob]


def compute(evaluation: Authors) -> pd.DataFrame:
    """All rows, or those of the evaluation's `quantities`."""
    few = {name: image_set.first(evaluation.settings.images) for name, image_set in evaluation.sets.items()}
    view = replace(evaluation, sets=few)
    functions: dict[str, Callable[[Authors], Iterator[pd.DataFrame]]] = {
        "scores": _scores,
        "bounds": _bounds,
        "attacks": _attacks,
        "votes": partial(votes, pool=evaluation.sets),
        "labels": _labels,
    }
    wanted = evaluation.quantities or [quantity.name for quantity in QUANTITIES]
    frames = [frame for name in wanted for frame in functions[name](view)]
    evaluation.calls += view.calls
    return ordered(pd.concat(frames, ignore_index=True), SPEC.order, ["id", *(evaluation.ood_names or ())])


def _scored(
    view: Authors, network: nn.Module, images: Tensor, name: str, flags: Flags, purpose: str
) -> tuple[np.ndarray, np.ndarray]:
    """Scores [m, N] and predictions [N] over the draws of the clean evaluation; in the authors' code of one (D18)."""
    job = view.settings
    draws = 1 if "D18" in flags else job.draws
    size = job.images * (draws if job.method_spec.is_randomised else 1)
    size = min(job.batch_size, size)  # more would be padding
    changed = replace(view, settings=job.model_copy(update={"draws": draws, "batch_size": size}))
    detector = networks.detector(network, job.method_spec.score, flags)
    return score_deployed(changed, detector, images, name, f"{NOISE_NAME}/{purpose}" if "D18" in flags else "clean")


def _scores(view: Authors) -> Iterator[pd.DataFrame]:
    for flag, flags in variants(view, "D8", "D9", "D13", "D18", "D22"):
        with opened(view, networks.deployed_sigma(view.settings.sigma, view.components, flags), flags) as network:
            for name, image_set in view.sets.items():
                scores, predictions = _scored(view, network, view.images(name), name, flags, "score")
                yield quantity_rows(view, name, flag, "score", scores.mean(0))
                if name == "id":
                    yield quantity_rows(view, name, flag, "correct", predictions == image_set.labels)


def _bounds(view: Authors) -> Iterator[pd.DataFrame]:
    job, spec = view.settings, view.settings.method_spec
    components = {name: deepcopy(one).double().eval() for name, one in view.components.items() if name != "denoiser"}
    bound = partial(linf_bound, spec, components, epsilon=job.epsilon, num_classes=job.num_classes)
    of_classifier = not (spec.discriminator or spec.denoiser)
    with torch.inference_mode():
        for flag, flags in variants(view, "D10", "D11", "D13"):
            for name, ids in view.ood():
                batches = view.images(name).double().split(job.batch_size)
                bounds = [bound(batch, protocol=flags) for batch in batches]
                yield quantity_rows(view, name, flag, "bound", torch.cat(bounds).cpu())
                view.calls += 2 * len(ids) * of_classifier
        if spec.discriminator and "id" in view.sets:
            alone = bound(view.images("id")[:1].double(), protocol=protocol(""))
            for flag, flags in variants(view, "D12"):
                joins = [_can_be_joined(alone, flags)]
                yield quantity_rows(view, "id", flag, "single_image", joins, view.sets["id"].ids[:1])


def _can_be_joined(bound: Tensor, flags: Flags) -> bool:
    try:
        joined([bound], flags)
    except RuntimeError:
        return False
    return True


def _attacks(view: Authors) -> Iterator[pd.DataFrame]:
    job, spec = view.settings, view.settings.method_spec
    size, budget = LOADER_BATCH[spec.is_randomised], job.budget
    for flag, flags in variants(view, "D8", "D9", "D13", "D14", "D18", "D19", "D22"):
        attack = partial(
            authors_code_ensemble,
            epsilon=job.epsilon,
            protocol=flags,
            apgd=budget.apgd.as_json(),
            pgd=budget.pgd.as_json(),
            draws=budget.draws,
            seed=job.seed,
        )
        with opened(view, networks.deployed_sigma(job.sigma, view.components, flags), flags) as network:
            for name, ids in view.ood():
                images = view.images(name)
                attacked = [
                    attack(network, spec.score, images[at : at + size], ids[at : at + size], name)
                    for at in range(0, len(ids), size)
                ]
                candidates = {"clean": images}
                candidates |= {kind: torch.cat([points[kind] for points in attacked]) for kind in attacked[0]}
                scores = [
                    _scored(view, network, points, name, flags, kind)[0].mean(0) for kind, points in candidates.items()
                ]
                yield quantity_rows(view, name, flag, "attacked", np.max(scores, axis=0))


def _labels(view: Authors) -> Iterator[pd.DataFrame]:
    """ID images under AutoAttack, judged by single passes or, corrected, by means as in attack_id (D18)."""
    job = view.settings
    if not job.method_spec.is_randomised:
        return
    images, image_set = view.images("id"), view.sets["id"]
    labels, epsilon = torch.from_numpy(image_set.labels).to(images.device), max(job.epsilons)
    for flag, flags in variants(view, "D9", "D13", "D17"):
        sigma = networks.label_sigma(job.sigma, epsilon, image_set.shape, view.components, flags)
        with opened(view, sigma, flags) as network:
            attacked = autoattack(
                ClassLogits(network, job.num_classes),
                images,
                labels,
                epsilon,
                **job.autoattack.as_json(),
                seed=derive_seed(job.seed, "autoattack", epsilon) % 2**32,
                batch_size=job.batch_size,
            )
            points = {attack: adversarial for attack, (adversarial, _) in attacked.items()}
            yield quantity_rows(view, "id", flag, "robust", _judged_once(view, network, images, points, flags))
            if flag == "":
                yield quantity_rows(view, "id", "D18", "robust", _judged_by_means(view, network, images, points))


def _right(view: Authors, network: nn.Module, images: Tensor, flags: Flags, purpose: str) -> np.ndarray:
    return _scored(view, network, images, "id", flags, purpose)[1] == view.sets["id"].labels


def _judged_once(
    view: Authors, network: nn.Module, images: Tensor, points: dict[str, Tensor], flags: Flags
) -> np.ndarray:
    """Whether one last pass is right on what the attacks have left.

    An attack's point takes the place of an image that a single pass gets right before and wrong after it.
    """
    right, left = _right(view, network, images, flags, "before"), images
    for attack, adversarial in points.items():
        broken = right & ~_right(view, network, adversarial, flags, attack)
        left = torch.where(torch.from_numpy(broken).to(left.device)[:, None, None, None], adversarial, left)
        right = right & ~broken
    return _right(view, network, left, flags, "after")


def _judged_by_means(view: Authors, network: nn.Module, images: Tensor, points: dict[str, Tensor]) -> np.ndarray:
    sound = protocol("D18")
    return np.logical_and.reduce([_right(view, network, one, sound, "") for one in (images, *points.values())])
