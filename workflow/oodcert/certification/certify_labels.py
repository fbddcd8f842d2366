"""Certified classification of ID images by randomized smoothing (Cohen et al. 2019)."""

import numpy as np
import pandas as pd
import torch

from oodcert.certification.adaptive import alpha_spending_schedule
from oodcert.certification.monte_carlo import IN_PLACE, default_batch_size, sample, shared_denoising
from oodcert.certification.precision import check_precision, marked_logits, prepared
from oodcert.certification.smoothing_bounds import proportion_bounds, vote_radius
from oodcert.errors import InputError
from oodcert.models.checks import check_images, refuse_rows

NO_VOTE = -1  # of a draw whose logits are not finite
DOUBT = 0.1  # how often sampling may stop although further draws would have shown the next radius


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
    sampling="fixed",
    *,
    radii=(0.0, 0.25, 0.5, 0.75, 1.0),
    precision="float32",
    ids=None,
    name="",
    progress=None,
):
    """Predictions of the smoothed classifier and the l2 radius within which each cannot change.

    network: images [N, C, H, W] to logits [N, K], or a dict of such networks by name, which are certified on the same
    draws and share the pass through a denoiser that they have in common. images: float tensor [N, C, H, W] in [0, 1];
    labels: N integers. n0 draws choose the class, n fresh ones bound its probability; each image's radius holds with
    probability ≥ 1 - alpha. sampling: "fixed", or "adaptive" with at most n draws: an image is finished once its radius
    will not pass another of the `radii`. Returns a DataFrame with a row per image: image (id), prediction (-1:
    abstains), radius (rounded down, 0 where it abstains), correct, n (draws used, without n0); of a dict of networks,
    after a column network. Raises InputError on images outside [0, 1], NaN logits or unknown settings.
    """
    check_images(images)
    check_precision(precision)
    if len(labels) != len(images):
        raise InputError(f"{len(labels)} labels for {len(images)} images: give one an image.")
    networks = network if isinstance(network, dict) else {"": network}
    for one in networks.values():
        one.to(images.device).eval()
    ids = list(range(len(images)) if ids is None else ids)
    if n0 < 1:
        raise InputError(f"n0 = {n0}: at least one draw is needed to choose the class.")
    stages, levels = alpha_spending_schedule(sampling, n, alpha)
    found = {one: {} for one in networks}  # position -> its row
    wanted = set(networks)  # those that have an image of the batch still to settle

    def count(votes):
        """The class that the first n0 draws choose, its votes among the others, and their number."""
        winner = np.bincount(votes[:n0]).argmax()
        return winner, int((votes[n0:] == winner).sum()), len(votes) - n0

    def row(position, votes):
        winner, agreeing, drawn = count(votes)
        radius = float(vote_radius(agreeing, drawn, sigma, levels[stages.index(drawn)]))
        return {
            "image": ids[position],
            "prediction": int(winner) if radius > 0 else -1,
            "radius": radius,
            "correct": radius > 0 and winner == int(labels[position]),
            "n": drawn,
        }

    def suffice(stage, votes):
        _, agreeing, drawn = count(votes)
        certified = vote_radius(agreeing, drawn, sigma, levels[stage])
        to_come = int(np.ceil(proportion_bounds(agreeing, drawn, DOUBT)[1] * (n - drawn)))
        hoped = vote_radius(agreeing + to_come, n, sigma, levels[-1])
        return _passed(certified, radii) >= _passed(hoped, radii)

    def settled(position, stage, votes):
        for one, column in zip(networks, votes.T, strict=True):
            if position not in found[one] and suffice(stage, column):
                found[one][position] = row(position, column)
        return all(position in rows for rows in found.values())

    def coming(positions):
        wanted.clear()
        wanted.update(one for one in networks if not positions <= found[one].keys())

    sampled = sample(
        lambda batch: _votes(networks, batch, precision, wanted),
        images,
        ids,
        name,
        sigma=sigma,
        stages=[n0 + drawn for drawn in stages],
        settled=settled,
        coming=coming,
        refuse=lambda votes: _refuse(networks, votes),
        precision=precision,
        seed=seed,
        batch_size=default_batch_size(images.shape[1:], images.device) if batch_size is None else batch_size,
        progress=progress,
    )
    with shared_denoising(networks.values()), prepared(networks.values(), images.device, precision):
        for position, votes in sampled:
            for one, column in zip(networks, votes.T, strict=True):
                if position not in found[one]:
                    found[one][position] = row(position, column)
    table = pd.DataFrame(
        [{"network": one, **rows[position]} for one, rows in found.items() for position in range(len(ids))]
    )
    return table if isinstance(network, dict) else table.drop(columns="network")


def _votes(networks, batch, precision, wanted):
    """Classes [B, D] that every network predicts, NO_VOTE where its logits are not finite; 0 of networks that are not
    wanted."""
    version, columns = batch._version, []
    for name, one in networks.items():
        if name not in wanted:
            columns.append(torch.zeros(len(batch), dtype=torch.int64, device=batch.device))
            continue
        logits, finite = marked_logits(one, batch, precision)
        columns.append(logits.argmax(1).where(finite, NO_VOTE))
        if len(networks) > 1 and batch._version != version:
            raise InputError(IN_PLACE)
    return torch.stack(columns, 1)


def _refuse(networks, votes):
    for one, column in zip(networks.values(), votes.T, strict=True):
        refuse_rows(one, column == NO_VOTE)


def _passed(radius, radii):
    """How many of the radii are certified; none where the classifier abstains."""
    return int((np.asarray(radii) <= radius).sum()) if radius > 0 else 0
