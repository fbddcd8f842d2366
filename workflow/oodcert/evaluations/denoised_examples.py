"""Example images with noise and denoised, for the eye."""

import numpy as np
import torch

from oodcert.runtime.keyed_noise import keyed_batch, keyed_noise


def denoised_examples(denoiser, sets, sigmas, seed, device):
    """Images of each set with keyed noise and denoised, for the eye.

    sets: name -> ImageSet. Returns arrays clean [N, C, H, W], noisy and denoised [S, N, C, H, W], sigmas [S] and
    names [N], the set of each example.
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
    return {
        "clean": clean,
        "noisy": noisy,
        "denoised": np.stack(denoised),
        "sigmas": np.array(sigmas),
        "names": names,
    }
