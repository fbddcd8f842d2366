"""The paired bootstrap over images: how often every image is drawn, and the metrics of such a resample.

Two images are added to those of every set before they are resampled. On one of them the subject of a claim does best,
and what it is compared with does worst. On the other it is the other way round. Without them a difference that rests on
a handful of images, all of one sign, would look certain.

Of scores, the best is above, and the worst below, every score of both sides (ID; the reverse for OOD). That allows for
a failure that is too rare to be among the images, such as an ID image below all OOD images. It is right for the ends of
a difference, and for the lower end of a single value. The upper end of a single value must not fall for a failure that
no image shows. There, best and worst rank with the extremes of their side that were seen.

Source: on a difference of paired proportions this is the adjustment of Bonett and Price (2012), "Adjusted Wald
confidence interval for a difference of binomial proportions based on paired data", Journal of Educational and
Behavioral Statistics 37, https://doi.org/10.3102/1076998611411915. They add one to both counts of discordant pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

RESAMPLES = 2000
ADDED = 2
LEVELS = 100


def drawn(images: int, seed: int) -> NDArray[np.int32]:
    """How often each image of a set is drawn in each resample. Equal arguments give equal draws.

    Args:
        images: number of images of the set.
        seed: of the random numbers.

    Returns:
        int [1 + RESAMPLES, images + ADDED]. The first row is the set itself: every image once, and none of those that
        are added. The others are resamples, with replacement, of as many images as there are columns.
    """
    columns = images + ADDED
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(columns, np.full(columns, 1 / columns), size=RESAMPLES)
    itself = np.arange(columns) < images
    return np.concatenate([itself[None], counts]).astype(np.int32)


def with_added(
    id_scores: NDArray[Any], ood_scores: NDArray[Any], favoured: bool, beyond: bool = True
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ranks of the scores of both sides, with two images added to each: one at its best, one at its worst.

    Args:
        id_scores: of N ID images.
        ood_scores: of M OOD images.
        favoured: True: the best of the added images comes first; False: it comes second.
        beyond: True: they rank beyond all scores of both sides; False: with the extremes of their side.

    Returns:
        Ranks from 0 of the ID images, int [N + ADDED], and of the OOD images, int [M + ADDED], equal for equal scores.
    """
    ranks = 1 + np.unique(np.concatenate([id_scores, ood_scores]), return_inverse=True)[1]
    id_ranks, ood_ranks = ranks[: len(id_scores)], ranks[len(id_scores) :]
    order = 1 if favoured else -1
    id_added, ood_added = (id_ranks.max(), id_ranks.min()), (ood_ranks.min(), ood_ranks.max())
    if beyond:
        id_added, ood_added = (ranks.max() + 1, 0), (0, ranks.max() + 1)
    return np.append(id_ranks, id_added[::order]), np.append(ood_ranks, ood_added[::order])


def detection_auc(
    id_ranks: NDArray[np.integer[Any]],
    ood_ranks: NDArray[np.integer[Any]],
    id_drawn: NDArray[np.integer[Any]],
    ood_drawn: NDArray[np.integer[Any]],
) -> NDArray[np.float64]:
    """The AUC of `detection_metrics` alone, floats [B]."""
    higher = (id_ranks[:, None] > ood_ranks) + 0.5 * (id_ranks[:, None] == ood_ranks)  # [N, M]
    won = ((id_drawn @ higher) * ood_drawn).sum(axis=1)
    return np.asarray(won / (id_drawn.sum(axis=1) * ood_drawn.sum(axis=1)), np.float64)


def detection_metrics(
    id_ranks: NDArray[np.integer[Any]],
    ood_ranks: NDArray[np.integer[Any]],
    id_drawn: NDArray[np.integer[Any]],
    ood_drawn: NDArray[np.integer[Any]],
    guaranteed: bool = False,
) -> dict[str, NDArray[np.float64]]:
    """The metrics of `oodcert.statistics.metrics.ood_metrics`, of every resample.

    Args:
        id_ranks: [N] integers >= 0 in the order of the scores, equal for equal ones.
        ood_ranks: [M] likewise.
        id_drawn: [B, N], how often each ID image counts.
        ood_drawn: [B, M], how often each OOD image counts.
        guaranteed: as for `ood_metrics`.

    Returns:
        "auc", "aupr" and "fpr95" -> floats [B] in [0, 1].
    """
    levels = np.arange(max(id_ranks.max(), ood_ranks.max()), -1, -1)
    true, false = _accepted(id_ranks, id_drawn, levels), _accepted(ood_ranks, ood_drawn, levels)
    id_level = np.diff(true, axis=1, prepend=0)  # images at each level
    id_total, ood_total = true[:, -1], false[:, -1]
    if guaranteed:  # every tie against the detector: the sum of j / (j + false) over the images j of a level
        harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, 1 + (id_total + ood_total).max()))])
        last = (true + false).astype(np.int32)
        precision = id_level - false * (harmonic[last] - harmonic[last - id_level.astype(np.int32)])
    else:
        precision = id_level * true / np.maximum(true + false, 1)
    threshold = (true >= np.ceil(0.95 * id_total - 1e-9)[:, None]).argmax(axis=1)
    return {
        "auc": detection_auc(id_ranks, ood_ranks, id_drawn, ood_drawn),
        "aupr": precision.sum(axis=1) / id_total,
        "fpr95": false[np.arange(len(false)), threshold] / ood_total,
    }


def moved_auc(
    id_draws: NDArray[np.float64],
    ood_draws: NDArray[np.float64],
    shift: float,
    id_drawn: NDArray[np.integer[Any]],
    ood_drawn: NDArray[np.integer[Any]],
    favoured: bool,
    beyond: bool = True,
) -> NDArray[np.float64]:
    """The AUC of noisy scores, moved by a shift in probit space (see oodcert.certification.roc_bounds), of resamples.

    ID draws between two of at most LEVELS thresholds are compared with the lower one, so that ties count against the
    detector.

    Args:
        id_draws: scores [N, m].
        ood_draws: scores [M, m].
        shift: radius / sigma.
        id_drawn: [B, N + ADDED], as of `drawn`.
        ood_drawn: [B, M + ADDED], likewise.
        favoured: True: the best of the added images comes first; False: it comes second.
        beyond: True: the ID images that are added have all draws at the highest or the lowest threshold, and of the OOD
            ones all draws are accepted at every threshold, or none. False: they are like the most extreme images seen.

    Returns:
        Floats [B] in [0, 1].
    """
    ordered = np.sort(id_draws, axis=None)
    levels = np.unique(ordered[np.linspace(0, len(ordered) - 1, min(LEVELS, len(ordered))).astype(int)])
    place = np.searchsorted(levels, id_draws, side="right") - 1
    held = np.stack([(place == level).mean(axis=1) for level in range(len(levels))], axis=1)  # [N, J]
    accepted = (ood_draws[:, :, None] >= levels).mean(axis=1)  # [M, J]
    order = 1 if favoured else -1
    id_added, ood_added = np.eye(len(levels))[[-1, 0]], np.stack([np.zeros(len(levels)), np.ones(len(levels))])
    if not beyond:
        level, rate = held @ np.arange(len(levels)), accepted.mean(axis=1)
        id_added, ood_added = held[[level.argmax(), level.argmin()]], accepted[[rate.argmin(), rate.argmax()]]
    held, accepted = np.vstack([held, id_added[::order]]), np.vstack([accepted, ood_added[::order]])
    rate = (ood_drawn @ accepted) / ood_drawn.sum(axis=1, keepdims=True)
    rejected = 1 - ndtr(ndtri(rate) + shift)
    return np.asarray(((id_drawn @ held) * rejected).sum(axis=1) / id_drawn.sum(axis=1), np.float64)


def _accepted(
    ranks: NDArray[np.integer[Any]], counts: NDArray[np.integer[Any]], levels: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Number of images at or above every level: whole numbers as floats [B, levels], for float products are fast."""
    return counts.astype(np.float64) @ (ranks[:, None] >= levels).astype(np.float64)
