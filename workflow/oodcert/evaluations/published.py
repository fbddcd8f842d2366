"""The published protocol on trained models: what the authors' code computes, and each flag made sound by itself."""

from contextlib import ExitStack
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch

from oodcert.attacks.autoattack import autoattack
from oodcert.certification.bounds import score_bounds
from oodcert.certification.sampling import sample, shared_denoising
from oodcert.data.noise_sets import NOISE
from oodcert.detector import ClassLogits, checked_logits, replayed_logits
from oodcert.evaluations.base import deployed
from oodcert.methods import is_randomised
from oodcert.published import networks
from oodcert.published.attack import published_ensemble
from oodcert.published.bounds import joined, linf_bound
from oodcert.published.flags import LOADER_BATCH, Case, acting, protocol
from oodcert.published.l2 import certificate, own_radii
from oodcert.rng import batch_draws, derive, normal_draws

# flags that each quantity is measured without, one at a time; the others need no network (oodcert.tables.published)
SCORES = ("D8", "D9", "D13", "D18", "D22")
BOUNDS = ("D10", "D11", "D13")
ATTACKS = ("D8", "D9", "D13", "D14", "D18", "D19", "D22")
VOTES = ("D9", "D13", "D22")  # on the noise of the published protocol
LABELS = ("D9", "D13", "D17")


def published(evaluation):
    """Rows method, set, sample, switched, quantity, value of the first `images` of every set.

    switched: "" under the published protocol, or the flag that is made sound, where that may change the quantity.
    Quantities: score, attacked and bound (in the l-infinity ball); agreeing, the votes of n that voted_class has;
    voted_right, whether it is the label; one_pass, its probability; l2_bound, a sound upper bound at the own radius;
    correct and, of randomised methods under AutoAttack at its largest radius, robust; single_image, whether a bound of one image
    alone can be computed. The images of voted OOD sets are the first in the order of their source (D6).
    """
    settings = evaluation.settings
    first = {name: image_set.first(settings["images"]) for name, image_set in evaluation.sets.items()}
    work = replace(evaluation, sets=first)
    frames = [*_scores(work), *_bounds(work), *_attacks(work), *_votes(work, evaluation.sets)]
    if is_randomised(settings["composition"]):
        frames += _labels(work)
    evaluation.calls += work.calls
    return pd.concat(frames, ignore_index=True)


def variants(flags, work):
    """(switched, protocol) for every variant of a quantity that the flags change."""
    settings = work.settings
    ood = tuple(name for name, _ in work.ood())
    facts = Case(settings["composition"], settings["num_classes"], ood, settings["images"], settings["test_images"])
    return [(switched, protocol(switched)) for switched in ("", *acting(flags, facts))]


def _rows(work, name, switched, quantity, values, ids=None):
    ids = work.sets[name].ids if ids is None else ids
    columns = {"sample": ids, "switched": switched, "quantity": quantity, "value": np.asarray(values, np.float64)}
    return pd.DataFrame({"method": work.method, "set": name, **columns})


def _network(work, sigma, flags, noisy=True):
    """The context of one network under a protocol; what passes through it is counted."""
    return work.network(partial(networks.network, protocol=flags, noisy=noisy), sigma)


def _scored(work, network, images, name, flags, purpose):
    """Scores [m, N] and predictions [N] over the draws of the clean evaluation or, published, of one draw (D18)."""
    settings, randomised = work.settings, is_randomised(work.settings["composition"])
    draws = 1 if "D18" in flags else settings["draws"]
    size = min(settings["batch_size"], settings["images"] * (draws if randomised else 1))
    view = replace(work, settings={**settings, "draws": draws, "batch_size": size})
    detector = networks.detector(network, settings["composition"]["score"], flags)
    return deployed(view, detector, images, name, purpose if "D18" in flags else "clean")


def _scores(work):
    for switched, flags in variants(SCORES, work):
        sigma = networks.deployed_sigma(work.settings["sigma"], work.parts, flags)
        with _network(work, sigma, flags) as network:
            for name, image_set in work.sets.items():
                scores, predictions = _scored(work, network, work.images(name), name, flags, "published/score")
                yield _rows(work, name, switched, "score", scores.mean(0))
                if name == "id":
                    yield _rows(work, name, switched, "correct", predictions == image_set.labels)


def _bounds(work):
    settings, composition = work.settings, work.settings["composition"]
    parts = {name: deepcopy(part).double().eval() for name, part in work.parts.items() if name != "denoiser"}
    bound = partial(linf_bound, composition, parts, epsilon=settings["epsilon"], num_classes=settings["num_classes"])
    with torch.inference_mode():
        for switched, flags in variants(BOUNDS, work):
            for name, ids in work.ood():
                images = work.images(name).double()
                found = [bound(batch, protocol=flags) for batch in images.split(settings["batch_size"])]
                yield _rows(work, name, switched, "bound", torch.cat(found).cpu())
                work.calls += 0 if _bounded_alone(composition) else 2 * len(ids)
        if composition["discriminator"]:
            alone = bound(work.images("id")[:1].double(), protocol=protocol(""))
            for switched, flags in variants(("D12",), work):
                yield _rows(work, "id", switched, "single_image", [_can_be_joined(alone, flags)], ids=[0])


def _bounded_alone(composition):
    """Whether no bound needs a pass of the classifier, the part whose passes are counted."""
    return composition["discriminator"] or composition["denoiser"]


def _can_be_joined(bound, flags):
    try:
        joined([bound], flags)
    except RuntimeError:
        return False
    return True


def _attacks(work):
    settings, composition = work.settings, work.settings["composition"]
    batch = LOADER_BATCH[is_randomised(composition)]
    for switched, flags in variants(ATTACKS, work):
        sigma = networks.deployed_sigma(settings["sigma"], work.parts, flags)
        with _network(work, sigma, flags) as network:
            for name, ids in work.ood():
                images = work.images(name)
                found = [
                    published_ensemble(
                        network,
                        composition["score"],
                        images[start : start + batch],
                        ids[start : start + batch],
                        name,
                        settings["epsilon"],
                        protocol=flags,
                        apgd=settings["budget"]["apgd"],
                        pgd=settings["budget"]["pgd"],
                        draws=settings["budget"]["draws"],
                        seed=settings["seed"],
                    )
                    for start in range(0, len(ids), batch)
                ]
                candidates = {"clean": images}
                for attack in found[0]:
                    candidates[attack] = torch.cat([points[attack] for points in found])
                scores = [
                    _scored(work, network, points, name, flags, f"published/{attack}")[0].mean(0)
                    for attack, points in candidates.items()
                ]
                yield _rows(work, name, switched, "attacked", np.max(scores, axis=0))


def _votes(work, pool):
    """Votes as the paper's algorithm takes them, and what else of the l2 certificates needs a network."""
    chosen = {name: _in_source_order(name, image_set, work) for name, image_set in pool.items()}
    yield from _voted(work, chosen, variants(VOTES, work))
    yield from _voted(work, chosen, variants(("D1",), work)[1:])
    if variants(("D6",), work)[1:]:
        others = {name: one for name, one in work.sets.items() if name != "id" and name not in NOISE}
        yield from _voted(work, others, variants(("D6",), work)[1:])


def _in_source_order(name, image_set, work):
    """The first images in the order of a set's source, as far as the pool has them; of the ID set, those of `work`."""
    count = work.settings["images"]
    return work.sets[name] if name == "id" else image_set.chosen(np.argsort(image_set.ids)[:count])


def _voted(work, sets, protocols):
    """All protocols on the same noise, through one pass of the denoiser."""
    settings, composition = work.settings, work.settings["composition"]
    sigma, classes = settings["sigma"], settings["num_classes"]
    if not protocols:
        return
    again = is_randomised(composition) and "D1" in protocols[0][1]
    with ExitStack() as stack:
        on_noisy, on_clean = (
            [stack.enter_context(_network(work, sigma, flags, noisy)) for _, flags in protocols]
            for noisy in (False, True)
        )
        detectors = [
            networks.detector(network, composition["score"], flags)
            for network, (_, flags) in zip(on_noisy, protocols, strict=True)
        ]

        def evaluate(batch):
            logits = [checked_logits(one.network, batch).double() for one in detectors]
            found = [
                torch.stack([part[:, :classes].argmax(1).double(), one.score_of(part)], 1)
                for one, part in zip(detectors, logits, strict=True)
            ]
            return torch.stack(found, 1)

        stack.enter_context(shared_denoising(on_noisy))
        for name, image_set in sets.items():
            images = torch.from_numpy(image_set.floats()).to(work.device)
            drawn = sample(
                evaluate,
                images,
                image_set.ids,
                f"published/votes/{name}",
                sigma=sigma * (2**0.5 if again else 1),
                stages=[settings["n0"] + settings["n"]],
                seed=settings["seed"],
                batch_size=settings["batch_size"],
                progress=f"votes, {name}",
            )
            draws = np.stack([found for _, found in drawn])  # [N, draws, protocols, 2]
            for index, (switched, flags) in enumerate(protocols):
                classes_, scores = draws[:, :, index, 0].astype(int), draws[:, settings["n0"] :, index, 1]
                winners = np.array([np.bincount(one[: settings["n0"]]).argmax() for one in classes_])
                agreeing = (classes_[:, settings["n0"] :] == winners[:, None]).sum(1)
                one_pass = _one_pass(work, on_clean[index], detectors[index], images, image_set.ids, name, winners)
                columns = {
                    "agreeing": agreeing,
                    "one_pass": one_pass,
                    "l2_bound": _bounds_at_own_radii(work, scores, agreeing, flags),
                }
                if name == "id":
                    columns["voted_right"] = winners == image_set.labels
                for quantity, values in columns.items():
                    yield _rows(work, name, switched, quantity, values, image_set.ids)


def _one_pass(work, network, detector, images, ids, name, winners):
    """A single pass: the probability of each image's voted class or, of a score that is no probability, the score."""
    with torch.inference_mode():
        if is_randomised(work.settings["composition"]):
            key = f"published/one_pass/{name}"
            noise = batch_draws(normal_draws, work.settings["seed"], key, ids, 1, images.shape[1:])
            logits = replayed_logits(network, images, torch.from_numpy(noise).to(work.device))[0].double()
        else:
            logits = checked_logits(network, images).double()
    if detector.unbounded or work.settings["composition"]["score"] != "msp":
        return detector.score_of(logits).cpu().numpy()
    return logits.softmax(1).cpu().numpy()[np.arange(len(ids)), winners]


def _bounds_at_own_radii(work, draws, agreeing, flags):
    """Sound upper bounds on the smoothed scores [N] in the balls of the images' own radii (D2 made sound)."""
    settings = work.settings
    kind = certificate(settings["composition"], settings["bounds"])
    own = own_radii(agreeing, settings["n"], settings["sigma"], settings["alpha"], flags)
    return [
        score_bounds([kind], row, settings["sigma"], [radius], settings["alpha"])[kind][2][0]
        for row, radius in zip(draws, own, strict=True)
    ]


def _labels(work):
    """ID images under AutoAttack, judged by single passes or, made sound, as in attack_id (D18)."""
    settings, images, image_set = work.settings, work.images("id"), work.sets["id"]
    targets, epsilon = torch.from_numpy(image_set.labels).to(images.device), max(settings["epsilons"])
    for switched, flags in variants(LABELS, work):
        sigma = networks.label_sigma(settings["sigma"], epsilon, image_set.shape, work.parts, flags)
        with _network(work, sigma, flags) as network:
            found = autoattack(
                ClassLogits(network, settings["num_classes"]),
                images,
                targets,
                epsilon,
                **settings["autoattack"],
                seed=derive(settings["seed"], "autoattack", epsilon) % 2**32,
                batch_size=settings["batch_size"],
            )
            points = {attack: adversarial for attack, (adversarial, _) in found.items()}
            right = partial(_right, work, network)
            judged = {switched: _judged_once(right, images, points, flags)}
            if not switched:
                judged["D18"] = _judged_by_means(right, images, points)
        for key, robust in judged.items():
            yield _rows(work, "id", key, "robust", robust)


def _right(work, network, images, flags, purpose):
    return _scored(work, network, images, "id", flags, f"published/{purpose}")[1] == work.sets["id"].labels


def _judged_once(right, images, points, flags):
    """Images that survive as AutoAttack's own evaluation has it: an attack's point replaces an image that a single
    pass gets right before and wrong after it, and one more pass judges what is left."""
    robust, final = right(images, flags, "before"), images
    for attack, adversarial in points.items():
        broken = robust & ~right(adversarial, flags, attack)
        final = torch.where(torch.from_numpy(broken).to(images.device)[:, None, None, None], adversarial, final)
        robust &= ~broken
    return right(final, flags, "after")


def _judged_by_means(right, images, points):
    sound = protocol("D18")
    return np.logical_and.reduce([right(one, sound, "") for one in (images, *points.values())])
