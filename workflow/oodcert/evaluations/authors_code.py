"""The published protocol on trained models: what the authors' code computes, and each flag made sound by itself."""

from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch

from oodcert.attacks.autoattack import autoattack
from oodcert.authors_code import networks
from oodcert.authors_code.attack import authors_code_ensemble
from oodcert.authors_code.bounds import joined, linf_bound
from oodcert.authors_code.flags import LOADER_BATCH, protocol
from oodcert.config.method_specs import is_randomised
from oodcert.evaluations.base import score_deployed
from oodcert.evaluations.variants import opened, rows, variants
from oodcert.evaluations.votes import votes
from oodcert.execution.partial_results import ordered
from oodcert.models.wrappers import ClassLogits
from oodcert.runtime.keyed_noise import derive_seed


def published(evaluation):
    """Rows method, set, sample, corrected_flag, quantity, value of the first `images` of every set.

    corrected_flag: "" under the published protocol, or the flag that is made sound, where that may change the quantity; what
    the other flags change is computed from these rows (oodcert.reporting.tables.authors_code). Quantities: score; bound and
    attacked, in the l-infinity ball; agreeing, how many of n votes the class of the first n0 has; voted_right, whether
    that is the label; one_pass, its probability; l2_bound, a sound upper bound at the image's own radius; correct and,
    of randomised methods under AutoAttack at its largest radius, robust; single_image, of joint models: whether a bound
    of one image alone can be computed.
    """
    settings = evaluation.settings
    first = {name: image_set.first(settings["images"]) for name, image_set in evaluation.sets.items()}
    work = replace(evaluation, sets=first)
    computed = {
        "scores": _scores,
        "bounds": _bounds,
        "attacks": _attacks,
        "votes": partial(votes, pool=evaluation.sets),
        "labels": _labels,
    }
    frames = [frame for quantity in evaluation.quantities for frame in computed[quantity](work)]
    evaluation.calls += work.calls
    return ordered(pd.concat(frames, ignore_index=True), "published", ["id", *evaluation.ood_names])


def _scored(work, network, images, name, flags, purpose):
    """Scores [m, N] and predictions [N] over the draws of the clean evaluation or, published, of one draw (D18)."""
    settings = work.settings
    draws = 1 if "D18" in flags else settings["draws"]
    size = settings["images"] * (draws if is_randomised(settings["method_spec"]) else 1)
    size = min(settings["batch_size"], size)  # more would be padding
    view = replace(work, settings={**settings, "draws": draws, "batch_size": size})
    detector = networks.detector(network, settings["method_spec"]["score"], flags)
    return score_deployed(view, detector, images, name, f"published/{purpose}" if "D18" in flags else "clean")


def _scores(work):
    for corrected_flag, flags in variants(work, "D8", "D9", "D13", "D18", "D22"):
        with opened(work, networks.deployed_sigma(work.settings["sigma"], work.parts, flags), flags) as network:
            for name, image_set in work.sets.items():
                scores, predictions = _scored(work, network, work.images(name), name, flags, "score")
                yield rows(work, name, corrected_flag, "score", scores.mean(0))
                if name == "id":
                    yield rows(work, name, corrected_flag, "correct", predictions == image_set.labels)


def _bounds(work):
    settings, method_spec = work.settings, work.settings["method_spec"]
    parts = {name: deepcopy(part).double().eval() for name, part in work.parts.items() if name != "denoiser"}
    bound = partial(linf_bound, method_spec, parts, epsilon=settings["epsilon"], num_classes=settings["num_classes"])
    of_classifier = not (method_spec["discriminator"] or method_spec["denoiser"])
    with torch.inference_mode():
        for corrected_flag, flags in variants(work, "D10", "D11", "D13"):
            for name, ids in work.ood():
                batches = work.images(name).double().split(settings["batch_size"])
                found = [bound(batch, protocol=flags) for batch in batches]
                yield rows(work, name, corrected_flag, "bound", torch.cat(found).cpu())
                work.calls += 2 * len(ids) * of_classifier
        if method_spec["discriminator"] and "id" in work.sets:
            alone = bound(work.images("id")[:1].double(), protocol=protocol(""))
            for corrected_flag, flags in variants(work, "D12"):
                yield rows(
                    work, "id", corrected_flag, "single_image", _can_be_joined(alone, flags), work.sets["id"].ids[:1]
                )


def _can_be_joined(bound, flags):
    try:
        joined([bound], flags)
    except RuntimeError:
        return [False]
    return [True]


def _attacks(work):
    settings, method_spec = work.settings, work.settings["method_spec"]
    size = LOADER_BATCH[is_randomised(method_spec)]
    for corrected_flag, flags in variants(work, "D8", "D9", "D13", "D14", "D18", "D19", "D22"):
        attack = partial(
            authors_code_ensemble,
            epsilon=settings["epsilon"],
            protocol=flags,
            **settings["budget"],
            seed=settings["seed"],
        )
        with opened(work, networks.deployed_sigma(settings["sigma"], work.parts, flags), flags) as network:
            for name, ids in work.ood():
                images = work.images(name)
                found = [
                    attack(network, method_spec["score"], images[at : at + size], ids[at : at + size], name)
                    for at in range(0, len(ids), size)
                ]
                candidates = {"clean": images}
                candidates |= {kind: torch.cat([points[kind] for points in found]) for kind in found[0]}
                scores = [
                    _scored(work, network, points, name, flags, kind)[0].mean(0) for kind, points in candidates.items()
                ]
                yield rows(work, name, corrected_flag, "attacked", np.max(scores, axis=0))


def _labels(work):
    """ID images under AutoAttack, judged by single passes or, made sound, by means as in attack_id (D18)."""
    if not is_randomised(work.settings["method_spec"]):
        return
    settings, images, image_set = work.settings, work.images("id"), work.sets["id"]
    labels, epsilon = torch.from_numpy(image_set.labels).to(images.device), max(settings["epsilons"])
    for corrected_flag, flags in variants(work, "D9", "D13", "D17"):
        sigma = networks.label_sigma(settings["sigma"], epsilon, image_set.shape, work.parts, flags)
        with opened(work, sigma, flags) as network:
            found = autoattack(
                ClassLogits(network, settings["num_classes"]),
                images,
                labels,
                epsilon,
                **settings["autoattack"],
                seed=derive_seed(settings["seed"], "autoattack", epsilon) % 2**32,
                batch_size=settings["batch_size"],
            )
            points = {attack: adversarial for attack, (adversarial, _) in found.items()}
            yield rows(work, "id", corrected_flag, "robust", _judged_once(work, network, images, points, flags))
            if corrected_flag == "":
                yield rows(work, "id", "D18", "robust", _judged_by_means(work, network, images, points))


def _right(work, network, images, flags, purpose):
    return _scored(work, network, images, "id", flags, purpose)[1] == work.sets["id"].labels


def _judged_once(work, network, images, points, flags):
    """Whether one last pass is right on what the attacks have left: an attack's point takes the place of an image that
    a single pass gets right before and wrong after it."""
    right, left = _right(work, network, images, flags, "before"), images
    for attack, adversarial in points.items():
        broken = right & ~_right(work, network, adversarial, flags, attack)
        left = torch.where(torch.from_numpy(broken).to(left.device)[:, None, None, None], adversarial, left)
        right = right & ~broken
    return _right(work, network, left, flags, "after")


def _judged_by_means(work, network, images, points):
    sound = protocol("D18")
    return np.logical_and.reduce([_right(work, network, one, sound, "") for one in (images, *points.values())])
