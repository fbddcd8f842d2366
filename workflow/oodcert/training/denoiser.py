"""denoiser: a denoising diffusion model with noise prediction (Ho et al. 2020), on the ID images."""

import torch
from torch.nn.functional import mse_loss

from oodcert.training.loop import fit


def train(denoiser, parts, data, settings, seed):
    generator = torch.Generator().manual_seed(seed)
    schedule = denoiser.alphas_cumprod.float()

    def loss(images, *_):
        timestep = torch.randint(len(schedule), (len(images),), generator=generator).to(images.device)
        noise = torch.randn(images.shape, generator=generator).to(images.device)
        signal = schedule[timestep].reshape(-1, 1, 1, 1)
        noisy = signal.sqrt() * (2 * images - 1) + (1 - signal).sqrt() * noise
        return mse_loss(denoiser.noise_model(noisy, timestep), noise)

    optimizer = torch.optim.Adam(denoiser.parameters(), lr=settings["learning_rate"])
    sizes = {"epochs": settings["epochs"], "batch_size": settings["batch_size"]}
    return fit(denoiser, loss, data, optimizer=optimizer, milestones=(0.5, 0.75, 0.9), decay=0.3, seed=seed, **sizes)
