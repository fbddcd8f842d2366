"""discriminator: ProoD's ID/OOD discriminator, trained on its interval bounds (Meinke et al. 2022)."""

import torch
from torch.nn.functional import softplus

from oodcert.certification.interval_propagation import interval_bounds
from oodcert.training.loop import fit, ramp

SETTINGS = {"epsilon": "nonnegative", "epsilon_ramp": "share", "weight_ramp": "share", "bias_shift": "finite"}


def discriminator_loss(network, images, outliers, epsilon, weight):
    """Binary loss on the ID images, "id", and weight times that of the upper bounds over the outliers' epsilon-box."""
    lower, upper = (outliers - epsilon).clamp(min=0), (outliers + epsilon).clamp(max=1)
    highest = interval_bounds(network, lower, upper)[1]
    return {"id": softplus(-network(images)).mean(), "outliers": weight * softplus(highest).mean()}


def train(network, parts, data, settings, **run):
    """Epsilon and the outliers' weight rise linearly to `epsilon` and 1 over their shares of the epochs (0: at once).

    Adam, with the learning rate / 5 at 50, 75 and 85 % of the epochs. bias_shift is ProoD's Δ: added to the output's
    bias after training, it moves p(i|x) of ID images towards one.
    """

    def loss(batch):
        epsilon = settings["epsilon"] * ramp(batch.progress, settings["epsilon_ramp"])
        weight = ramp(batch.progress, settings["weight_ramp"])
        return discriminator_loss(network, batch.images, batch.outliers, epsilon, weight)

    optimizer = torch.optim.Adam(
        network.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"]
    )
    recipe = {"optimizer": optimizer, "milestones": (0.5, 0.75, 0.85), "decay": 0.2, "autocast": False}
    curve = fit(network, loss, data, settings, **recipe, **run)
    with torch.no_grad():
        network[-1].bias += settings["bias_shift"]
    return curve
