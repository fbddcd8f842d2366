"""The paired bootstrap over images: how often every image is drawn, and the metrics of such a resample.

Two images are added to those of every set before they are resampled: one on which whatever a claim is about does best
and what it is compared with does worst, and one the other way round. Without them a difference that rests on a handful
of images, all of one sign, would look certain. On a difference of paired proportions this is the adjustment of Bonett
and Price (2012, Journal of Educational and Behavioral Statistics 37), who add one to both counts of discordant pairs.
Of scores, best and worst are the highest and the lowest of the ID images, the lowest and the highest of OOD images.
"""

import numpy as np

from oodcert.runtime.keyed_noise import derive_seed

RESAMPLES = 2000
ADDED = 2


def drawn(seed, name, images):
    """How often each image of a set is drawn: int [1 + RESAMPLES, images + ADDED]. Equal arguments give equal draws.

    The first row is the set itself, every image once and none of those added; the others are resamples, with
    replacement, of as many images as there are columns.
    """
    columns = images + ADDED
    generator = np.random.default_rng(derive_seed(seed, "bootstrap", name, images))
    counts = generator.multinomial(columns, np.full(columns, 1 / columns), size=RESAMPLES)
    itself = np.arange(columns) < images
    return np.concatenate([itself[None], counts]).astype(np.int32)


def with_added(id_scores, ood_scores, favoured):
    """Ranks of the scores: int [N + ADDED], [M + ADDED]; the images added rank with the extremes of their side.

    favoured: whether the best of them is the first or the second.
    """
    ranks = np.unique(np.concatenate([id_scores, ood_scores]), return_inverse=True)[1]
    inside, outside = ranks[: len(id_scores)], ranks[len(id_scores) :]
    order = 1 if favoured else -1
    added = (inside.max(), inside.min()), (outside.min(), outside.max())
    return np.append(inside, added[0][::order]), np.append(outside, added[1][::order])


def detection_metrics(id_ranks, ood_ranks, id_drawn, ood_drawn, guaranteed=False):
    """The metrics of `oodcert.statistics.metrics.ood_metrics`, of every resample: dict of floats [B] in [0, 1].

    id_ranks [N], ood_ranks [M]: integers ≥ 0 in the order of the scores, equal for equal ones; id_drawn [B, N],
    ood_drawn [B, M]: how often each image counts.
    """
    levels = np.arange(max(id_ranks.max(), ood_ranks.max()), -1, -1)
    true, false = _accepted(id_ranks, id_drawn, levels), _accepted(ood_ranks, ood_drawn, levels)
    inside, outside = (np.diff(one, axis=1, prepend=0) for one in (true, false))
    total, strange = true[:, -1], false[:, -1]
    won = inside * (strange[:, None] - false + 0.5 * outside)
    if guaranteed:  # every tie against the detector: the sum of j / (j + false) over the images j of a level
        harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, 1 + (total + strange).max()))])
        last = (true + false).astype(np.int32)
        precision = inside - false * (harmonic[last] - harmonic[last - inside.astype(np.int32)])
    else:
        precision = inside * true / np.maximum(true + false, 1)
    threshold = (true >= np.ceil(0.95 * total - 1e-9)[:, None]).argmax(axis=1)
    return {
        "auc": won.sum(axis=1) / (total * strange),
        "aupr": precision.sum(axis=1) / total,
        "fpr95": false[np.arange(len(false)), threshold] / strange,
    }


def _accepted(ranks, counts, levels):
    """Number of images at or above every level: whole numbers as floats [B, levels], for float products are fast."""
    return counts.astype(np.float64) @ (ranks[:, None] >= levels).astype(np.float64)
