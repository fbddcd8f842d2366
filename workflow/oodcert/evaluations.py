"""The evaluations: each turns a method's trained parts and the image sets into per-sample evidence.

Every function takes an Evaluation and returns a DataFrame with a row per sample (and setting), in a fixed order.
"""

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from oodcert.attacks.autoattack import autoattack
from oodcert.attacks.ood import linf_ensemble, smoothed_l2_attack
from oodcert.certification.bounds import percentile_bounds
from oodcert.certification.confidence import score_bound
from oodcert.certification.labels import certify_labels
from oodcert.certification.means import betting_bounds
from oodcert.certification.sampling import sample
from oodcert.certification.scores import certify
from oodcert.detector import Detector, checked_logits, noisy_parts, replayed_logits
from oodcert.methods import deployed_network, smoothed_network
from oodcert.metrics import tpr_threshold
from oodcert.rng import batch_draws, derive, normal_draws

ID_WIDTH = 0.002  # adaptive sampling: how far an ID bound may be from what all draws would give, in score units
ATTACK_ALPHA = 1e-7  # error probability of an l2 attack's lower bounds: many are compared with certificates


@dataclass
class Evaluation:
    """What an evaluation works on.

    parts: name -> trained module; sets: "id" and the OOD sets' names -> ImageSet; settings: seed, num_classes,
    batch_size, and what the one evaluation needs (see its rule's params). calls counts the images that went
    through the method's network.
    """

    method: str
    parts: dict
    sets: dict
    settings: dict
    device: str = "cpu"
    calls: int = field(default=0, init=False)

    def __post_init__(self):
        self.parts = {name: module.to(self.device) for name, module in self.parts.items()}

    def images(self, name):
        return torch.from_numpy(self.sets[name].floats()).to(self.device)

    def ood(self):
        """(name, ids) of the OOD sets."""
        return [(name, image_set.ids) for name, image_set in self.sets.items() if name != "id"]

    def build(self, builder, sigma):
        """The method's network, by one of the builders of oodcert.methods."""
        return builder(self.method, self.parts, sigma, self.settings["num_classes"])

    @contextmanager
    def network(self, builder, sigma):
        """The same, and the images that pass through it are counted."""
        network = self.build(builder, sigma)
        hook = network.register_forward_hook(self._count)
        try:
            yield network
        finally:
            hook.remove()

    def _count(self, _, inputs, __):
        self.calls += len(inputs[0])


def clean(evaluation):
    """Scores and predictions of the unperturbed images: method, set, sample, label, prediction, score, draws."""
    frames = []
    with evaluation.network(deployed_network, evaluation.settings["sigma"]) as network:
        detector = Detector(network)
        for name, image_set in evaluation.sets.items():
            scores, predictions = _deployed(evaluation, detector, evaluation.images(name), name)
            columns = {"sample": image_set.ids, "label": image_set.labels, "prediction": predictions}
            frames.append(_frame(evaluation, name, **columns, score=scores.mean(0), draws=len(scores)))
    return pd.concat(frames, ignore_index=True)


def guarantee_linf(evaluation):
    """Upper bounds on the OOD confidence in the l-infinity ball, in float64: set, sample, epsilon, upper, vacuous."""
    frames, epsilon, size = [], evaluation.settings["epsilon"], evaluation.settings["batch_size"]
    network = deepcopy(evaluation.build(deployed_network, sigma=None)).double()  # the bound does not depend on sigma
    for name, ids in evaluation.ood():
        images = evaluation.images(name).double()
        with torch.inference_mode():
            bounds = [score_bound(network, "msp", images[index], epsilon)[:real] for index, real in _chunks(ids, size)]
        upper = torch.cat(bounds).cpu().numpy()
        evaluation.calls += 2 * len(ids)
        frames.append(_frame(evaluation, name, sample=ids, epsilon=epsilon, upper=upper, vacuous=upper >= 1))
    return pd.concat(frames, ignore_index=True)


def attack_linf(evaluation):
    """The highest OOD confidence that the l-infinity ensemble finds: set, sample, epsilon, clean, attacked, attack, …

    A randomised method is attacked on one set of noise draws and scored on the draws of its clean evaluation, which
    the attack never saw; the clean image is a candidate, so attacked ≥ clean.
    """
    settings, budget, frames = evaluation.settings, evaluation.settings["budget"], []
    epsilon = settings["epsilon"]
    with evaluation.network(deployed_network, settings["sigma"]) as network:
        detector = Detector(network)
        for name, ids in evaluation.ood():
            images, found, attacks = evaluation.images(name), [], []
            for index, real in _chunks(ids, max(1, settings["batch_size"] // budget["draws"]), f"attack, {name}"):
                strongest, names = linf_ensemble(
                    detector, images[index], ids[index], name, epsilon, **budget, seed=settings["seed"]
                )
                found.append(strongest[:real])
                attacks += names[:real]
            before, _ = _deployed(evaluation, detector, images, name)
            after, _ = _deployed(evaluation, detector, torch.cat(found), name)
            stronger = after.mean(0) > before.mean(0)
            columns = {
                "clean": before.mean(0),
                "attacked": np.maximum(after.mean(0), before.mean(0)),
                "attack": np.where(stronger, attacks, "clean"),
                "standard_error": after.std(0, ddof=1) / np.sqrt(len(after)) if len(after) > 1 else 0.0,
            }
            frames.append(_frame(evaluation, name, sample=ids, epsilon=epsilon, **columns, **budget))
    return pd.concat(frames, ignore_index=True)


def certify_l2(evaluation):
    """l2 bounds on the smoothed score of every image, a row per sigma, image, bound and radius.

    Adaptive sampling settles which OOD bounds stay below the threshold that 95 % of the ID lower bounds at radius 0
    reach, which are its only ID bounds.
    """
    settings, frames = evaluation.settings, []
    common = {key: settings[key] for key in ("n", "alpha", "bounds", "seed", "batch_size", "sampling")}
    adaptive = settings["sampling"] == "adaptive"
    for sigma in settings["sigmas"]:
        with evaluation.network(smoothed_network, sigma) as network:
            thresholds = None
            for name, image_set in evaluation.sets.items():
                table = certify(
                    Detector(network),
                    evaluation.images(name),
                    sigma,
                    [0.0] if adaptive and name == "id" else settings["radii"],
                    **common,
                    against=thresholds,
                    width=ID_WIDTH,
                    ids=image_set.ids,
                    name=f"certify/{name}",
                    progress=f"{name}, sigma {sigma}",
                )
                if adaptive and name == "id":
                    thresholds = {bound: tpr_threshold(rows["lower"]) for bound, rows in table.groupby("bound")}
                frames.append(table.rename(columns={"image": "sample"}).assign(method=evaluation.method, set=name))
    first = ["method", "set", "sample"]
    table = pd.concat(frames, ignore_index=True)
    return table[[*first, *table.columns.drop(first)]]


def attack_l2(evaluation):
    """Smoothed scores of OOD images attacked within each certified radius, estimated on fresh noise.

    set, sample, sigma, radius, median, median_lower, mean, mean_lower, n, alpha, …: an attack starts from the result
    at the next smaller radius, and each image keeps its highest value over the smaller radii, its clean one (radius 0)
    included. The lower bounds hold with probability ≥ 1 - alpha each, that choice included.
    """
    settings, frames = evaluation.settings, []
    radii = sorted({0.0, *settings["radii"]})
    budget = {key: settings[key] for key in ("iterations", "restarts", "draws")}
    size = max(1, settings["batch_size"] // budget["draws"])
    for sigma in settings["sigmas"]:
        with evaluation.network(smoothed_network, sigma) as network:
            detector = Detector(network)
            for name, ids in evaluation.ood():
                images = attacked = evaluation.images(name)
                strongest = None
                for radius in radii:
                    if radius > 0:
                        attacked = torch.cat(
                            [
                                smoothed_l2_attack(
                                    detector,
                                    images[index],
                                    ids[index],
                                    name,
                                    sigma,
                                    radius,
                                    attacked[index],
                                    **budget,
                                    seed=settings["seed"],
                                )[:real]
                                for index, real in _chunks(ids, size, f"attack, {name}, sigma {sigma}, radius {radius}")
                            ]
                        )
                    found = _smoothed(evaluation, detector, attacked, name, sigma, ATTACK_ALPHA / len(radii))
                    strongest = found if strongest is None else np.maximum(strongest, found)
                    where = {"sample": ids, "sigma": sigma, "radius": radius}
                    constants = {"n": settings["n"], "alpha": ATTACK_ALPHA, **budget}
                    frames.append(_frame(evaluation, name, **where, **strongest, **constants))
    return pd.concat(frames, ignore_index=True)


def _smoothed(evaluation, detector, images, name, sigma, alpha):
    """Median and mean of the smoothed score of each image, and lower bounds on them, from fresh noise."""
    settings = evaluation.settings
    drawn = sample(
        lambda batch: detector.raw_score(batch).double(),
        images,
        evaluation.sets[name].ids,
        f"attack_l2/final/{name}",
        sigma=sigma,
        stages=[settings["n"]],
        seed=settings["seed"],
        batch_size=settings["batch_size"],
        progress=f"score, {name}, sigma {sigma}",
    )
    draws = np.stack([scores for _, scores in drawn])
    ordered = np.sort(draws, axis=1)
    return pd.DataFrame(
        {
            "median": ordered[:, -(-settings["n"] // 2) - 1],
            "median_lower": percentile_bounds(ordered, sigma, [0.0], alpha)[0][:, 0],
            "mean": draws.mean(1),
            "mean_lower": betting_bounds(draws, alpha)[0],
        }
    )


def certify_id(evaluation):
    """Certified radius of each ID image's label (Cohen): sample, sigma, label, prediction, radius, correct, n0, …"""
    settings, frames, ids = evaluation.settings, [], evaluation.sets["id"].ids
    labels = evaluation.sets["id"].labels
    for sigma in settings["sigmas"]:
        with evaluation.network(smoothed_network, sigma) as network:
            table = certify_labels(
                network,
                evaluation.images("id"),
                labels,
                sigma,
                **{key: settings[key] for key in ("n0", "n", "alpha", "sampling", "radii")},
                seed=settings["seed"],
                batch_size=settings["batch_size"],
                ids=ids,
                name="labels/id",
                progress=f"labels, sigma {sigma}",
            )
            columns = {key: table[key] for key in ("prediction", "radius", "correct", "n")}
            constants = {key: settings[key] for key in ("n0", "alpha")}
            frames.append(_frame(evaluation, "id", sample=ids, sigma=sigma, label=labels, **columns, **constants))
    return pd.concat(frames, ignore_index=True)


def attack_id(evaluation):
    """Whether AutoAttack breaks each ID image: sample, label, epsilon, …, clean_correct, correct.

    correct counts an image as robust only if AutoAttack reports no error on it and the method's own prediction (for a
    randomised method by the mean over noise draws that the attack never saw) is right on it before and after.
    """
    settings, budget, frames = evaluation.settings, evaluation.settings["budget"], []
    images, ids, labels = evaluation.images("id"), evaluation.sets["id"].ids, evaluation.sets["id"].labels
    targets = torch.from_numpy(labels).to(images.device)
    with evaluation.network(deployed_network, settings["sigma"]) as network:
        detector = Detector(network)
        before = _deployed(evaluation, detector, images, "id")[1] == labels
        for epsilon in settings["epsilons"]:
            seed = derive(settings["seed"], "autoattack", epsilon) % 2**32
            candidates, broken = autoattack(
                network, images, targets, epsilon, **budget, seed=seed, batch_size=settings["batch_size"]
            )
            correct = before & ~broken.cpu().numpy()
            for found in candidates:
                correct &= _deployed(evaluation, detector, found, "id")[1] == labels
            columns = {"clean_correct": before, "correct": correct}
            frames.append(_frame(evaluation, "id", sample=ids, label=labels, epsilon=epsilon, **budget, **columns))
    return pd.concat(frames, ignore_index=True)


def _deployed(evaluation, detector, images, name):
    """Scores [m, N] of the deployed detector and predictions [N]; m noise draws for a randomised method, else 1."""
    settings, ids = evaluation.settings, evaluation.sets[name].ids
    draws = settings["draws"] if noisy_parts(detector.network) else 1
    scores, predictions = [], []
    with torch.inference_mode():
        for index, real in _chunks(ids, max(1, settings["batch_size"] // draws)):
            batch = images[index]
            if noisy_parts(detector.network):
                noise = batch_draws(normal_draws, settings["seed"], f"clean/{name}", ids[index], draws, batch.shape[1:])
                outputs = replayed_logits(detector.network, batch, torch.from_numpy(noise).to(batch.device))
            else:
                outputs = checked_logits(detector.network, batch)[None]
            scores.append(torch.stack([detector.score_of(one.double()) for one in outputs])[:, :real])
            predictions.append(outputs.softmax(2).mean(0).argmax(1)[:real])
    return torch.cat(scores, 1).cpu().numpy(), torch.cat(predictions).cpu().numpy()


def _chunks(ids, size, progress=None):
    """(positions, how many of them are real) of batches of one fixed size; the last one repeats its last image.

    progress: a label for a progress bar.
    """
    for start in tqdm(range(0, len(ids), size), desc=progress, unit="batch", disable=not progress):
        index = np.arange(start, start + size)
        yield np.minimum(index, len(ids) - 1), min(size, len(ids) - start)


def _frame(evaluation, name, **columns):
    return pd.DataFrame({"method": evaluation.method, "set": name, **columns})
