"""The votes and scores behind the l2 certificates of the authors' code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from oodcert.authors_code.flags import NOISE_NAME
from oodcert.authors_code.l2 import certificate, own_radii
from oodcert.authors_code.networks import detector
from oodcert.certification.monte_carlo import sample, shared_denoising
from oodcert.certification.smoothing_bounds import score_bounds
from oodcert.data.imageset import ImageSet
from oodcert.data.noise_sets import NOISE
from oodcert.evaluations.authors_code import AuthorsCodeJob
from oodcert.evaluations.authors_code.variants import (
    Flags,
    Variant,
    corrected,
    opened,
    quantity_rows,
    variants,
)
from oodcert.evaluations.base import Evaluation
from oodcert.models.calls import without_gradients
from oodcert.models.checks import checked_logits
from oodcert.models.detector import Detector
from oodcert.models.wrappers import replayed_logits
from oodcert.runtime.keyed_noise import keyed_batch, keyed_noise

Authors = Evaluation[AuthorsCodeJob]


def votes(view: Authors, pool: Mapping[str, ImageSet]) -> Iterator[pd.DataFrame]:
    """Rows of agreeing, voted_right, one_pass and l2_bound.

    In the authors' code the images of an OOD set are its first in the order of the source (D6), as far as the pool has
    them.

    Args:
        view: the evaluation, with the images of the other quantities.
        pool: the sets from whose images those of the view were chosen.

    Yields:
        Frames of rows, which together have all of them.
    """
    count = view.settings.images
    first = {name: one.chosen(np.argsort(one.ids)[:count]) for name, one in pool.items() if name != "id"}
    sets = {name: one for name, one in view.sets.items() if name == "id"} | first
    yield from _voted(view, sets, variants(view, "D9", "D13", "D22"))
    yield from _voted(view, sets, corrected(view, "D1"))
    others = {name: one for name, one in view.sets.items() if name not in ("id", *NOISE)}
    yield from _voted(view, others, corrected(view, "D6"))


def _voted(view: Authors, sets: Mapping[str, ImageSet], chosen: Sequence[Variant]) -> Iterator[pd.DataFrame]:
    """Rows of variants that see the same noise, through one pass of the denoiser."""
    job = view.settings
    with ExitStack() as stack:
        noisy, clean = (
            [stack.enter_context(opened(view, job.sigma, flags, adds_noise)) for _, flags in chosen]
            for adds_noise in (False, True)
        )
        stack.enter_context(shared_denoising(noisy))
        scored = zip(noisy, chosen, strict=True)
        detectors = [detector(network, job.method_spec.score, flags) for network, (_, flags) in scored]
        for name, image_set in sets.items() if chosen else ():
            images = torch.from_numpy(image_set.floats()).to(view.device)
            draws = noisy_draws(view, detectors, images, image_set.ids, name, chosen[0][1])
            for index, (flag, flags) in enumerate(chosen):
                classes, scores = draws[:, :, index, 0].astype(int), draws[:, job.n0 :, index, 1]
                winners = np.array([np.bincount(one[: job.n0]).argmax() for one in classes])
                agreeing = (classes[:, job.n0 :] == winners[:, None]).sum(1)
                values = {
                    "agreeing": agreeing,
                    "one_pass": _one_pass(view, clean[index], flags, images, image_set.ids, name, winners),
                    "l2_bound": _bounds_at_own_radii(view, scores, agreeing, flags),
                }
                if name == "id":
                    values["voted_right"] = winners == image_set.labels
                for quantity, of_images in values.items():
                    yield quantity_rows(view, name, flag, quantity, of_images, image_set.ids)


def noisy_draws(
    view: Authors, detectors: Sequence[Detector], images: Tensor, ids: np.ndarray, name: str, flags: Flags
) -> np.ndarray:
    """Class and score of every draw: [N, n0 + n, detectors, 2]."""
    job = view.settings

    def evaluate(batch: Tensor) -> Tensor:
        columns = []
        for one in detectors:
            logits = checked_logits(one.network, batch).double()
            columns.append(torch.stack([logits[:, : job.num_classes].argmax(1), one.score_logits(logits)], 1))
        return torch.stack(columns, 1)

    twice = job.method_spec.is_randomised and "D1" in flags
    drawn = sample(
        evaluate,
        images,
        ids,
        f"{NOISE_NAME}/votes/{name}",
        sigma=job.sigma * (2**0.5 if twice else 1),
        looks=[job.n0 + job.n],
        seed=job.seed,
        batch_size=job.batch_size,
        progress=f"votes, {name}",
    )
    return np.stack([draws for _, draws in drawn])


def _one_pass(
    view: Authors,
    network: nn.Module,
    flags: Flags,
    images: Tensor,
    ids: np.ndarray,
    name: str,
    winners: np.ndarray,
) -> np.ndarray:
    """A single pass: the probability of each image's voted class or, of a score that is no probability, the score."""
    job, outputs = view.settings, []
    with without_gradients():
        for start in range(0, len(ids), job.batch_size):
            batch, chosen = images[start : start + job.batch_size], ids[start : start + job.batch_size]
            if job.method_spec.is_randomised:
                key, shape = f"{NOISE_NAME}/one_pass/{name}", tuple(batch.shape[1:])
                noise = torch.from_numpy(keyed_batch(keyed_noise, job.seed, key, chosen, 1, shape)).to(view.device)
                outputs.append(replayed_logits(network, batch, noise)[0].double())
            else:
                outputs.append(checked_logits(network, batch).double())
    logits = torch.cat(outputs)
    if job.method_spec.score == "msp":
        return logits.softmax(1).cpu().numpy()[np.arange(len(ids)), winners]
    return detector(network, job.method_spec.score, flags).score_logits(logits).cpu().numpy()


def _bounds_at_own_radii(view: Authors, draws: np.ndarray, agreeing: np.ndarray, flags: Flags) -> list[float]:
    """Sound upper bounds on the smoothed scores [N] in the balls of the images' certified radii (D2)."""
    job = view.settings
    kind = certificate(job.method_spec, job.bounds)
    radii = own_radii(agreeing, job.n, job.sigma, job.alpha, flags)
    return [
        score_bounds([kind], row, job.sigma, [radius], job.alpha)[kind][2][0]
        for row, radius in zip(draws, radii, strict=True)
    ]
