"""The votes and scores behind the l2 certificates of the published protocol."""

from contextlib import ExitStack

import numpy as np
import torch

from oodcert.authors_code.l2 import certificate, own_radii
from oodcert.authors_code.networks import detector
from oodcert.certification.monte_carlo import sample, shared_denoising
from oodcert.certification.smoothing_bounds import score_bounds
from oodcert.config.method_specs import is_randomised
from oodcert.data.noise_sets import NOISE
from oodcert.evaluations.variants import made_sound, opened, rows, variants
from oodcert.models.checks import checked_logits
from oodcert.models.wrappers import replayed_logits
from oodcert.runtime.keyed_noise import keyed_batch, keyed_noise


def votes(work, pool):
    """Rows of agreeing, voted_right, one_pass and l2_bound; pool: the sets whose first images are those of `work`.

    Published, the images of an OOD set are its first in the order of the source, as far as the pool has them (D6).
    """
    count = work.settings["images"]
    first = {name: one.chosen(np.argsort(one.ids)[:count]) for name, one in pool.items() if name != "id"}
    sets = {name: one for name, one in work.sets.items() if name == "id"} | first
    yield from _voted(work, sets, variants(work, "D9", "D13", "D22"))
    yield from _voted(work, sets, made_sound(work, "D1"))
    others = {name: one for name, one in work.sets.items() if name not in ("id", *NOISE)}
    yield from _voted(work, others, made_sound(work, "D6"))


def _voted(work, sets, protocols):
    """Rows of protocols that see the same noise, through one pass of the denoiser."""
    settings, method_spec = work.settings, work.settings["method_spec"]
    with ExitStack() as stack:
        noisy, clean = (
            [stack.enter_context(opened(work, settings["sigma"], flags, adds_noise)) for _, flags in protocols]
            for adds_noise in (False, True)
        )
        stack.enter_context(shared_denoising(noisy))
        scored = zip(noisy, protocols, strict=True)
        detectors = [detector(network, method_spec["score"], flags) for network, (_, flags) in scored]
        for name, image_set in sets.items() if protocols else ():
            images = torch.from_numpy(image_set.floats()).to(work.device)
            draws = noisy_draws(work, detectors, images, image_set.ids, name, protocols[0][1])
            for index, (corrected_flag, flags) in enumerate(protocols):
                classes, scores = draws[:, :, index, 0].astype(int), draws[:, settings["n0"] :, index, 1]
                winners = np.array([np.bincount(one[: settings["n0"]]).argmax() for one in classes])
                agreeing = (classes[:, settings["n0"] :] == winners[:, None]).sum(1)
                found = {
                    "agreeing": agreeing,
                    "one_pass": _one_pass(work, clean[index], flags, images, image_set.ids, name, winners),
                    "l2_bound": _bounds_at_own_radii(work, scores, agreeing, flags),
                }
                if name == "id":
                    found["voted_right"] = winners == image_set.labels
                for quantity, values in found.items():
                    yield rows(work, name, corrected_flag, quantity, values, image_set.ids)


def noisy_draws(work, detectors, images, ids, name, flags):
    """Class and score of every draw: [N, n0 + n, detectors, 2]."""
    settings = work.settings

    def evaluate(batch):
        found = []
        for one in detectors:
            logits = checked_logits(one.network, batch).double()
            found.append(torch.stack([logits[:, : settings["num_classes"]].argmax(1), one.score_of(logits)], 1))
        return torch.stack(found, 1)

    twice = is_randomised(settings["method_spec"]) and "D1" in flags
    drawn = sample(
        evaluate,
        images,
        ids,
        f"published/votes/{name}",
        sigma=settings["sigma"] * (2**0.5 if twice else 1),
        looks=[settings["n0"] + settings["n"]],
        seed=settings["seed"],
        batch_size=settings["batch_size"],
        progress=f"votes, {name}",
    )
    return np.stack([draws for _, draws in drawn])


def _one_pass(work, network, flags, images, ids, name, winners):
    """A single pass: the probability of each image's voted class or, of a score that is no probability, the score."""
    settings, found = work.settings, []
    with torch.inference_mode():
        for batch, chosen in zip(
            images.split(settings["batch_size"]), _split(ids, settings["batch_size"]), strict=True
        ):
            if is_randomised(settings["method_spec"]):
                key = f"published/one_pass/{name}"
                noise = keyed_batch(keyed_noise, settings["seed"], key, chosen, 1, batch.shape[1:])
                found.append(replayed_logits(network, batch, torch.from_numpy(noise).to(work.device))[0].double())
            else:
                found.append(checked_logits(network, batch).double())
    logits = torch.cat(found)
    if settings["method_spec"]["score"] == "msp":
        return logits.softmax(1).cpu().numpy()[np.arange(len(ids)), winners]
    return detector(network, settings["method_spec"]["score"], flags).score_of(logits).cpu().numpy()


def _split(ids, size):
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def _bounds_at_own_radii(work, draws, agreeing, flags):
    """Sound upper bounds on the smoothed scores [N] in the balls of the images' own radii (D2)."""
    settings = work.settings
    kind = certificate(settings["method_spec"], settings["bounds"])
    own = own_radii(agreeing, settings["n"], settings["sigma"], settings["alpha"], flags)
    return [
        score_bounds([kind], row, settings["sigma"], [radius], settings["alpha"])[kind][2][0]
        for row, radius in zip(draws, own, strict=True)
    ]
