"""Labels of ID images: certified by smoothing, and attacked."""

from contextlib import ExitStack

import numpy as np
import pandas as pd
import torch

from oodcert.attacks.autoattack import autoattack
from oodcert.certification.certify_labels import certify_labels
from oodcert.evaluations.base import frame, score_deployed
from oodcert.models.composition import deployed_network, smoothed_network
from oodcert.models.wrappers import ClassLogits
from oodcert.runtime.keyed_noise import derive_seed


def certify_id(*evaluations):
    """Certified radius of each ID image's label (Cohen): sample, sigma, label, prediction, radius, correct, n0, …

    evaluations: of one method, or of several that differ in their networks alone: these see the same draws, which a
    denoiser that they share denoises once.
    """
    first, frames = evaluations[0], []
    settings, ids, labels = first.settings, first.sets["id"].ids, first.sets["id"].labels
    for sigma in settings["sigmas"]:
        with ExitStack() as stack:
            networks = [stack.enter_context(one.network(smoothed_network, sigma)) for one in evaluations]
            table = certify_labels(
                {
                    one.method: ClassLogits(network, settings["num_classes"])
                    for one, network in zip(evaluations, networks, strict=True)
                },
                first.images("id"),
                labels,
                sigma,
                **{key: settings[key] for key in ("n0", "n", "alpha", "sampling", "radii")},
                precision=settings.get("precision", "float32"),
                seed=settings["seed"],
                batch_size=settings["batch_size"],
                ids=ids,
                name="labels/id",
                progress=f"labels, sigma {sigma}",
            )
            constants = {key: settings[key] for key in ("n0", "alpha")}
            for one in evaluations:
                rows = table[table["network"] == one.method]
                columns = {key: rows[key].to_numpy() for key in ("prediction", "radius", "correct", "n")}
                frames.append(frame(one, "id", sample=ids, sigma=sigma, label=labels, **columns, **constants))
    return pd.concat(frames, ignore_index=True)


def attack_id(evaluation):
    """Whether AutoAttack breaks each ID image: sample, label, epsilon, attack, …, clean_correct, correct.

    A row per attack of AutoAttack, on its own, and one of the "worst-case" over them. correct counts an image as robust
    only if AutoAttack reports no error on it and the method's own prediction (for a randomised method by the mean over
    noise draws that the attack never saw) is right on it before and after.
    """
    settings, budget, frames = evaluation.settings, evaluation.settings["budget"], []
    images, ids, labels = evaluation.images("id"), evaluation.sets["id"].ids, evaluation.sets["id"].labels
    targets = torch.from_numpy(labels).to(images.device)
    with evaluation.network(deployed_network, settings["sigma"]) as network:
        detector = evaluation.detector(network)
        before = score_deployed(evaluation, detector, images, "id")[1] == labels
        for epsilon in settings["epsilons"]:
            seed = derive_seed(settings["seed"], "autoattack", epsilon) % 2**32
            found = autoattack(
                ClassLogits(network, settings["num_classes"]),
                images,
                targets,
                epsilon,
                **budget,
                seed=seed,
                batch_size=settings["batch_size"],
            )
            robust = {
                attack: before
                & ~broken.cpu().numpy()
                & (score_deployed(evaluation, detector, points, "id")[1] == labels)
                for attack, (points, broken) in found.items()
            }
            robust["worst-case"] = np.logical_and.reduce(list(robust.values()))
            for attack, correct in robust.items():
                columns = {"attack": attack, **budget, "clean_correct": before, "correct": correct}
                frames.append(frame(evaluation, "id", sample=ids, label=labels, epsilon=epsilon, **columns))
    return pd.concat(frames, ignore_index=True)
