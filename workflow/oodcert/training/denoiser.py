"""denoiser: a denoising diffusion model with noise prediction (Ho et al. 2020), on the ID images."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from oodcert.config.models import Recipe
from oodcert.models.architectures.denoiser import DiffusionDenoiser
from oodcert.training.loop import Batch, Data, fit

SETTINGS: dict[str, str] = {}


def train(
    denoiser: DiffusionDenoiser, components: Mapping[str, nn.Module], data: Data, recipe: Recipe, **run: Any
) -> pd.DataFrame:
    """Trains the noise model to predict the noise in ID images at random timesteps.

    The optimizer is Adam. As "steps" the learning rate is multiplied by 0.3 at 50, 75 and 90 % of the epochs.

    Args:
        denoiser: Trained in place.
        components: Not used.
        data: What is trained on.
        recipe: The component's entry in the config's `training`.
        run: seed and the further options of `fit`.

    Returns:
        The learning curve of `fit`.

    Raises:
        InputError: A term of the loss is not finite.

    Source: Ho et al. (2020), algorithm 1, https://arxiv.org/abs/2006.11239
    """
    schedule = denoiser.alphas_cumprod.float()

    def loss(batch: Batch) -> dict[str, Tensor]:
        device = batch.images.device
        timestep = torch.randint(len(schedule), (len(batch.images),), generator=batch.generator).to(device)
        noise = torch.randn(batch.images.shape, generator=batch.generator, dtype=torch.float32).to(device)
        signal = schedule[timestep].reshape(-1, 1, 1, 1)
        noisy = signal.sqrt() * (2 * batch.images - 1) + (1 - signal).sqrt() * noise
        return {"noise": mse_loss(denoiser.noise_model(noisy, timestep), noise)}

    optimizer = torch.optim.Adam(denoiser.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    images = replace(data, outliers=data.outliers[:0])
    return fit(denoiser, loss, images, recipe, optimizer=optimizer, milestones=(0.5, 0.75, 0.9), decay=0.3, **run)
