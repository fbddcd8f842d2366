"""The five-line certificate of a detector's smoothed score."""

import numpy as np
import pandas as pd
import torch

from oodcert.certification.bounds import score_bounds
from oodcert.certification.sampling import sample_logits
from oodcert.detector import check_images
from oodcert.errors import InputError

BATCH_SIZE = 500


def certify(
    detector,
    images,
    sigma,
    radii=(0.0, 0.25, 0.5),
    n=1000,
    alpha=0.01,
    bounds=("percentile", "gaussian"),
    seed=0,
    batch_size=None,
    device=None,
    *,
    ids=None,
    name="",
    progress=None,
):
    """Bounds on the smoothed score of each image that hold for every l2 perturbation within each radius.

    detector: a Detector. images: float tensor [N, C, H, W] in [0, 1]. sigma: noise and radii: l2 radii, both in that
    pixel scale. n: noise draws an image. alpha: error probability of each single bound, that is per image, radius and
    side. bounds: "percentile" (the detector's score is the median of s(x + δ), any score) and "gaussian" (the score is
    the mean, s in [0, 1], which for a callable score is the caller's promise); see oodcert.certification.bounds.
    device: where to run, by default where the images are. ids, name: sample ids and set name that key the noise (by
    default the position and none). progress: a label for a progress bar.

    Returns a DataFrame with a row per image x bound x radius: image (id), bound, sigma, radius, estimate, lower, upper,
    n, alpha. lower and upper are -inf and +inf where n draws cannot certify the radius. A network with randomness of
    its own is smoothed over that too. Raises InputError on images outside [0, 1], NaN logits, or a gaussian bound of a
    score outside [0, 1].
    """
    check_images(images)
    if detector.unbounded and set(bounds) != {"percentile"}:
        raise InputError(f"bounds = {list(bounds)}: an unbounded score has no bounded mean, use ['percentile'] for it.")
    device = device or images.device
    detector.network.to(device)
    ids = range(len(images)) if ids is None else ids
    draws = sample_logits(
        detector.network,
        images.to(device),
        ids,
        name,
        sigma=sigma,
        n=n,
        seed=seed,
        batch_size=batch_size or BATCH_SIZE,
        progress=progress,
    )
    tables = []
    for sample, logits in zip(ids, draws, strict=True):
        ordered = np.sort(detector.score_of(logits.to(torch.float64)).numpy())
        for bound in bounds:
            estimate, lower, upper = score_bounds(bound, ordered, sigma, radii, alpha)
            columns = {"image": sample, "bound": bound, "sigma": sigma, "radius": list(radii), "estimate": estimate}
            tables.append(pd.DataFrame({**columns, "lower": lower, "upper": upper, "n": n, "alpha": alpha}))
    return pd.concat(tables, ignore_index=True)
