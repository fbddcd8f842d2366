"""The five-line certificate of a detector's smoothed score."""

import numpy as np
import pandas as pd
import torch

from oodcert.certification import WITHOUT_RANGE
from oodcert.certification.adaptive import alpha_spending_schedule, is_settled
from oodcert.certification.monte_carlo import IN_PLACE, default_batch_size, sample, shared_denoising
from oodcert.certification.precision import check_precision, marked_logits, prepared
from oodcert.certification.smoothing_bounds import BOUNDS, score_bounds
from oodcert.errors import InputError
from oodcert.models.checks import check_images, refuse_rows
from oodcert.models.scores import SCORES


def certify(
    detector,
    images,
    sigma,
    radii=(0.0, 0.25, 0.5),
    n=10_000,
    alpha=1e-3,
    bounds=("percentile", "cdf", "gaussian", "lipschitz"),
    seed=0,
    batch_size=None,
    device=None,
    sampling="fixed",
    *,
    against=None,
    ceiling=None,
    width=0.02,
    threshold=None,
    p=0.5,
    mean="betting",
    band="berk-jones",
    simultaneous=False,
    precision="float32",
    ids=None,
    name="",
    progress=None,
):
    """Bounds on the smoothed score of each image that hold for every l2 perturbation within each radius.

    detector: a Detector, or a dict of them by name, which are computed on the same draws and share the pass through a
    denoiser that they have in common. images: float tensor [N, C, H, W] in [0, 1]. sigma: noise and radii: l2 radii,
    both in that pixel scale. n: noise draws an image. batch_size: of every forward pass, by default 500 or fewer.
    alpha: error probability of each single bound, that is per image, kind, radius and side; with simultaneous=True, of
    all bounds of one kind and one detector in this result together (union bound over the N images, radii and sides).
    bounds: what is bounded, and how (see oodcert.certification.smoothing_bounds): "percentile", the p-quantile of s(x + δ), by
    default the median; "cdf" (from a `band` around the distribution), "gaussian" and "lipschitz" (from a `mean` bound),
    the expectation of a score in [0, 1], which for a callable score is the caller's promise; "vote", the probability
    that s(x + δ) ≥ threshold. Unbounded scores take percentile and vote. p and threshold must not depend on the draws.
    sampling: "fixed", or "adaptive" with at most n draws: an image is finished at the first stage at which n draws like
    the first half, or like the second half, of those so far would change no bound by more than `width` (a number, or a
    dict of them by detector; in standard deviations of the image's draws, where the score has no range). `against`
    asks for less: upper bounds alone, by how many of the values in `against` they reach (a change of the share `width`
    of these is accepted). It is a number (a decision at that threshold), a dict from kind of bound to numbers, or a
    table of the ID images, whose lower bounds at radius 0 are then the values: the image's part in the guaranteed AUC.
    `ceiling`, in the same forms but with one value a kind of bound, asks for lower bounds alone, and of those above it
    for no more than that: ID images well above the threshold need few draws.
    A detector that has settled all images of a batch is left out. Every bound keeps its alpha however sampling stops
    (see oodcert.certification.adaptive).
    device: where to run, by default where the images are; the networks are moved there. precision: of the networks,
    "float32", or "bfloat16" (autocast, and on a GPU torch.compile), in which noise is made on the device and is other
    noise than in float32; scores and bounds are of float64 in both (see oodcert.certification.precision). ids, name:
    sample ids (different integers) and set name that key the noise, by default the position and none: give two sets two
    names for independent noise. progress: a label for a progress bar.

    Returns a DataFrame with a row per image x bound x radius: image (id), bound ("percentile p=…" for another p than
    one half, "vote at …"), sigma, radius, estimate, lower, upper, n (draws used), alpha (of that bound); of a dict of
    detectors, after a column detector. lower and upper are -inf and +inf where the draws cannot certify the radius. A
    network with randomness of its own is smoothed over that too, if every draw has fresh randomness.
    Raises InputError on images outside [0, 1], NaN logits or scores, unknown settings, or a mean bound of an unbounded
    score.
    """
    check_images(images)
    detectors = detector if isinstance(detector, dict) else {"": detector}
    ids = list(range(len(images)) if ids is None else ids)
    check_precision(precision)
    _check(detectors, images, ids, radii, bounds, threshold, p)
    device = device or images.device
    level = alpha / (2 * len(images) * len(radii)) if simultaneous else alpha
    stages, levels = alpha_spending_schedule(sampling, n, level)
    options = {"p": p, "mean": mean, "band": band, "threshold": threshold}
    labels = {bound: _label(bound, p, threshold) for bound in bounds}
    if against is not None and ceiling is not None:
        raise InputError("Both against and ceiling are given: images are either compared or those compared with.")
    opposite = {one: _values("against", against, one, labels) for one in detectors}
    highest = {one: _values("ceiling", ceiling, one, labels) for one in detectors}
    widths = width if isinstance(width, dict) else dict.fromkeys(detectors, width)
    found = {one: {} for one in detectors}  # position -> (draws used, kind -> (estimate, lower, upper))
    wanted = set(detectors)  # those that have an image of the batch still to settle
    doubtful = dict.fromkeys(detectors)  # the kind of bound that last asked for more draws, to be tried first

    def bound(draws, stage, kinds=bounds):
        return score_bounds(kinds, draws, sigma, radii, levels[stage], **options)

    def suffice(one, stage, draws, kind):
        now = bound(draws, stage, [kind])
        foreseen = (bound(np.resize(half, stages[-1]), -1, [kind]) for half in np.array_split(draws, 2))
        unit = draws.std() if detectors[one].unbounded and against is None else 1
        return all(is_settled(now, final, widths[one] * unit, opposite[one], highest[one]) for final in foreseen)

    def settled(position, stage, draws):
        for one, column in zip(detectors, draws.T, strict=True):
            if position not in found[one]:
                kinds = sorted(bounds, key=lambda kind: kind != doubtful[one])
                doubtful[one] = next((kind for kind in kinds if not suffice(one, stage, column, kind)), None)
                if doubtful[one] is None:
                    found[one][position] = len(column), bound(column, stage)
        return all(position in found[one] for one in detectors)

    def coming(positions):
        wanted.clear()
        wanted.update(one for one in detectors if not positions <= found[one].keys())

    networks = [one.network.to(device).eval() for one in detectors.values()]
    sampled = sample(
        lambda batch: marked_scores(detectors, batch, precision, wanted),
        images.to(device),
        ids,
        name,
        sigma=sigma,
        stages=stages,
        settled=settled,
        coming=coming,
        refuse=lambda scores: refuse_scores(detectors, scores),
        precision=precision,
        seed=seed,
        batch_size=default_batch_size(images.shape[1:], device) if batch_size is None else batch_size,
        progress=progress,
    )
    with shared_denoising(networks), prepared(networks, device, precision):
        for position, draws in sampled:
            for one, column in zip(detectors, draws.T, strict=True):
                if position not in found[one]:
                    found[one][position] = len(column), bound(column, -1)
    tables = [_table(found[one], ids, labels, sigma, radii, level) for one in detectors]
    if isinstance(detector, dict):
        tables = [table.assign(detector=one) for one, table in zip(detectors, tables, strict=True)]
        tables = [table[["detector", *table.columns[:-1]]] for table in tables]
    return pd.concat(tables, ignore_index=True)


def _check(detectors, images, ids, radii, bounds, threshold, p):
    if not detectors:
        raise InputError("No detector was given: pass one, or a dict of them by name.")
    if len(ids) != len(images) or len({int(one) for one in ids}) != len(ids):
        raise InputError(f"{len(ids)} ids for {len(images)} images: give every image an integer of its own.")
    if isinstance(bounds, str):
        raise InputError(f"bounds = {bounds!r}: give a list, such as [{bounds!r}].")
    unknown = [bound for bound in bounds if bound not in BOUNDS]
    if unknown or not bounds:
        raise InputError(f"bounds = {list(bounds)}: use one or more of {', '.join(BOUNDS)}.")
    if any(one.unbounded for one in detectors.values()) and not set(bounds) <= set(WITHOUT_RANGE):
        raise InputError(
            f"bounds = {list(bounds)}: an unbounded score has no bounded mean, use {list(WITHOUT_RANGE)} for it, or "
            "the score msp."
        )
    if ("vote" in bounds) != (threshold is not None):
        raise InputError(
            f"bounds = {list(bounds)} with threshold = {threshold}: the vote bound, and no other, needs one."
        )
    if threshold is not None and not np.isfinite(threshold):
        raise InputError(f"threshold = {threshold}: it must be a finite score.")
    if not len(radii) or not all(0 <= radius < np.inf for radius in radii):
        raise InputError(f"radii = {list(radii)}: give one or more finite radii of at least 0.")
    if not 0 < p < 1:
        raise InputError(f"p = {p}: a quantile lies between 0 and 1.")


def _label(bound, p, threshold):
    """The bound's name in the table: values of different p or threshold are not to be compared."""
    if bound == "vote":
        return f"vote at {threshold:g}"
    return f"percentile p={p:g}" if bound == "percentile" and p != 0.5 else bound


def _values(argument, given, one, labels):
    """kind -> sorted values that this detector's bounds are compared with, or None where nothing is given."""
    if given is None:
        return None
    if isinstance(given, pd.DataFrame):
        rows = given[given["radius"] == 0]
        if "detector" in rows:
            rows = rows[rows["detector"] == one]
        rows = {label: group["lower"].to_numpy() for label, group in rows.groupby("bound")}
        values = {bound: rows[label] for bound, label in labels.items() if label in rows}
    else:
        values = given if isinstance(given, dict) else dict.fromkeys(labels, given)
    missing = set(labels) - set(values)
    if missing:
        raise InputError(
            f"`{argument}` has no values for {', '.join(sorted(missing))} (of a table: at radius 0): add them."
        )
    found = {bound: np.sort(np.atleast_1d(values[bound])) for bound in labels}
    if argument == "ceiling" and any(len(several) > 1 for several in found.values()):
        raise InputError("`ceiling` has several values for one kind of bound: give one.")
    return found


def marked_scores(detectors, batch, precision, wanted=None):
    """Scores [B, D] of every detector, in float64, NaN where there is none; the device need not have computed them.

    wanted: names of the detectors that are computed, by default all; the others' scores are 0.
    """
    version, columns = batch._version, []
    for name, detector in detectors.items():
        if wanted is not None and name not in wanted:
            columns.append(batch.new_zeros(len(batch), dtype=torch.float64))
            continue
        logits, finite = marked_logits(detector.network, batch, precision)
        column = detector.score_of(logits.to(torch.float64))
        if column.shape != batch.shape[:1]:
            shape = tuple(column.shape)
            raise InputError(f"The score gave {shape} for {len(batch)} images: one number an image is needed.")
        columns.append(column.where(finite, torch.nan))
        if len(detectors) > 1 and batch._version != version:
            raise InputError(IN_PLACE)
    return torch.stack(columns, 1)


def refuse_scores(detectors, scores):
    """Raises InputError where marked_scores [B, D], on the host, are NaN."""
    for detector, bad in zip(detectors.values(), np.isnan(scores).T, strict=True):
        if detector.score_of in SCORES.values():
            refuse_rows(detector.network, bad)
        elif bad.any():
            raise InputError(
                f"The score of {type(detector.network).__name__} is NaN, or its logits are not finite, for {bad.sum()} "
                f"of {len(bad)} images: one number an image is needed."
            )


def _table(found, ids, labels, sigma, radii, alpha):
    found = [found[position] for position in range(len(ids))]
    count, cells = len(ids), len(labels) * len(radii)

    def flat(part):
        return np.array(
            [[np.broadcast_to(now[bound][part], len(radii)) for bound in labels] for _, now in found]
        ).ravel()

    return pd.DataFrame(
        {
            "image": np.repeat(np.array(ids), cells),
            "bound": np.repeat(list(labels.values()), len(radii)).tolist() * count,
            "sigma": sigma,
            "radius": np.tile(np.asarray(radii, np.float64), count * len(labels)),
            "estimate": flat(0),
            "lower": flat(1),
            "upper": flat(2),
            "n": np.repeat([draws for draws, _ in found], cells),
            "alpha": alpha,
        }
    )
