"""denoiser: a denoising diffusion model with noise prediction (Ho et al. 2020), on the ID images."""

from dataclasses import replace

import torch
from torch.nn.functional import mse_loss

from oodcert.training.loop import fit

SETTINGS = {}


def train(denoiser, parts, data, settings, **run):
    """Adam, with the learning rate times 0.3 at 50, 75 and 90 % of the epochs."""
    schedule = denoiser.alphas_cumprod.float()

    def loss(batch):
        device = batch.images.device
        timestep = torch.randint(len(schedule), (len(batch.images),), generator=batch.generator).to(device)
        noise = torch.randn(batch.images.shape, generator=batch.generator).to(device)
        signal = schedule[timestep].reshape(-1, 1, 1, 1)
        noisy = signal.sqrt() * (2 * batch.images - 1) + (1 - signal).sqrt() * noise
        return {"noise": mse_loss(denoiser.noise_model(noisy, timestep), noise)}

    optimizer = torch.optim.Adam(
        denoiser.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"]
    )
    images = replace(data, outliers=data.outliers[:0])
    return fit(denoiser, loss, images, settings, optimizer=optimizer, milestones=(0.5, 0.75, 0.9), decay=0.3, **run)
