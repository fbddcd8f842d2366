"""discriminator: ProoD's ID/OOD discriminator, trained on its interval bounds (Meinke et al. 2022)."""

import torch
from torch.nn.functional import softplus

from oodcert.certification.interval import interval_bounds
from oodcert.training.loop import fit


def discriminator_loss(network, images, outliers, epsilon, weight):
    """Binary loss on the ID images plus weight times that of the upper bounds over the epsilon-box of the outliers."""
    lower, upper = (outliers - epsilon).clamp(min=0), (outliers + epsilon).clamp(max=1)
    highest = interval_bounds(network, lower, upper)[1]
    return softplus(-network(images)).mean() + weight * softplus(highest).mean()


def train(network, parts, data, settings, seed):
    """Epsilon and the outliers' weight rise linearly to `epsilon` and 1 over their shares of the epochs (0: at once).

    bias_shift is ProoD's Δ: added to the output's bias after training, it moves p(i|x) of ID images towards one.
    """

    def loss(images, _, outliers, progress):
        epsilon = settings["epsilon"] * _ramp(progress, settings["epsilon_ramp"])
        return discriminator_loss(network, images, outliers, epsilon, _ramp(progress, settings["weight_ramp"]))

    optimizer = torch.optim.Adam(network.parameters(), lr=settings["learning_rate"])
    sizes = {"epochs": settings["epochs"], "batch_size": settings["batch_size"]}
    curve = fit(network, loss, data, optimizer=optimizer, milestones=(0.5, 0.75, 0.85), decay=0.2, seed=seed, **sizes)
    with torch.no_grad():
        network[-1].bias += settings["bias_shift"]
    return curve


def _ramp(progress, share):
    return min(1.0, progress / share) if share > 0 else 1.0
