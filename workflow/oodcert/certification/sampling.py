"""Draws of a network's logits under keyed Gaussian noise, in batches of one fixed shape across images."""

import numpy as np
import torch
from tqdm import tqdm

from oodcert.detector import checked_logits
from oodcert.errors import InputError
from oodcert.rng import normal_draws


def sample_logits(network, images, ids, name, *, sigma, n, seed, batch_size, progress=None):
    """Yields, image by image and in order, the logits [n, K] of network(x + δ_i), δ_i ~ N(0, sigma² I).

    images [N, C, H, W] in [0, 1], on the network's device; ids: N stable sample ids. The noise of draw i depends on
    (seed, name, id, i) alone. Forward passes take batch_size rows that cross image boundaries, the last one
    padded, so no more than a batch and one image's logits are held at once. progress: a label for a progress bar.
    """
    _check(sigma, n, batch_size)
    shape, device, finished = images.shape[1:], images.device, []
    with torch.inference_mode(), tqdm(total=len(images) * n, desc=progress, unit="draw", disable=not progress) as bar:
        for start in range(0, len(images) * n, batch_size):
            rows = np.arange(start, min(start + batch_size, len(images) * n))
            noise = np.concatenate(
                [
                    normal_draws(seed, name, ids[image], draws[0], len(draws), shape)
                    for image, draws in ((i, rows[rows // n == i] % n) for i in range(rows[0] // n, rows[-1] // n + 1))
                ]
            )
            batch = images[torch.from_numpy(rows // n).to(device)] + sigma * torch.from_numpy(noise).to(device)
            padding = batch_size - len(batch)
            if padding:
                batch = torch.cat([batch, batch[-1:].expand(padding, *shape)])
            finished.append(checked_logits(network, batch)[: len(rows)].cpu())
            bar.update(len(rows))
            while sum(map(len, finished)) >= n:
                pool = torch.cat(finished)
                yield pool[:n]
                finished = [pool[n:]]


def _check(sigma, n, batch_size):
    for key, value in (("sigma", sigma), ("n", n), ("batch_size", batch_size)):
        if not value > 0:
            raise InputError(f"{key} = {value}: certification needs a positive {key}.")
