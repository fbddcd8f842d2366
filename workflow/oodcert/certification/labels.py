"""Certified classification of ID images by randomized smoothing (Cohen et al. 2019)."""

import pandas as pd
import torch

from oodcert.certification.bounds import vote_radius
from oodcert.certification.sampling import sample_logits
from oodcert.certification.scores import BATCH_SIZE
from oodcert.detector import check_images


def certify_labels(
    network,
    images,
    labels,
    sigma,
    n0=100,
    n=10_000,
    alpha=1e-3,
    seed=0,
    batch_size=None,
    *,
    ids=None,
    name="",
    progress=None,
):
    """Predictions of the smoothed classifier and the l2 radius within which each cannot change.

    images: float tensor [N, C, H, W] in [0, 1]; labels: N integers. n0 draws choose the class, n fresh ones bound its
    probability; each image's radius holds with probability ≥ 1 - alpha. Returns a DataFrame with a row per image:
    image (id), prediction (-1: abstains), radius (rounded down, 0 where it abstains), correct.
    """
    check_images(images)
    network.eval()
    ids = range(len(images)) if ids is None else ids
    size = batch_size or BATCH_SIZE
    draws = sample_logits(
        network, images, ids, name, sigma=sigma, n=n0 + n, seed=seed, batch_size=size, progress=progress
    )
    rows = []
    for sample, label, logits in zip(ids, labels, draws, strict=True):
        votes = logits.argmax(1)
        winner = int(torch.bincount(votes[:n0], minlength=logits.shape[1]).argmax())
        radius = float(vote_radius(int((votes[n0:] == winner).sum()), n, sigma, alpha))
        correct = radius > 0 and winner == int(label)
        rows.append({"image": sample, "prediction": winner if radius > 0 else -1, "radius": radius, "correct": correct})
    return pd.DataFrame(rows)
