"""Example images with noise and denoised, for the eye."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from oodcert.data.imageset import ImageSet
from oodcert.runtime.keyed_noise import keyed_batch, keyed_noise


def denoised_examples(
    denoiser: Callable[[Tensor, float], Tensor],
    sets: Mapping[str, ImageSet],
    sigmas: Sequence[float],
    seed: int,
    device: str,
) -> dict[str, np.ndarray]:
    """The images of each set with keyed noise, and denoised.

    Args:
        denoiser: callable (noisy images, sigma) -> denoised images [N, C, H, W] in [0, 1].
        sets: the images to show, by the set's name.
        sigmas: standard deviations S of the noise, in the pixel scale [0, 1].
        seed: of the noise.
        device: where the denoiser runs.

    Returns:
        Arrays clean [N, C, H, W], noisy and denoised [S, N, C, H, W], sigmas [S] and names [N], the set of each
        example.
    """
    clean = np.concatenate([image_set.floats() for image_set in sets.values()])
    noise = np.concatenate(
        [
            keyed_batch(keyed_noise, seed, f"examples/{name}", image_set.ids, 1, clean.shape[1:])[0]
            for name, image_set in sets.items()
        ]
    )
    noisy = np.stack([clean + np.float32(sigma) * noise for sigma in sigmas])
    with torch.inference_mode():
        denoised = [
            denoiser(torch.from_numpy(batch).to(device), sigma).cpu().numpy()
            for batch, sigma in zip(noisy, sigmas, strict=True)
        ]
    names = np.concatenate([[name] * len(image_set) for name, image_set in sets.items()])
    return {"clean": clean, "noisy": noisy, "denoised": np.stack(denoised), "sigmas": np.array(sigmas), "names": names}
