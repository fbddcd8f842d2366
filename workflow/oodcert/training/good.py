"""good: quantile-GOOD, guaranteed low confidence on outliers by interval bounds (Bitterwolf et al. 2020)."""

import torch
from torch.nn.functional import cross_entropy

from oodcert.certification.interval_propagation import logit_difference_bounds
from oodcert.training.loop import fit, ramp

SETTINGS = {
    "epsilon": "nonnegative",
    "quantile": "share",
    "outlier_weight": "nonnegative",
    "epsilon_ramp": "share",
    "weight_ramp": "share",
}
BOUNDED = True


def good_loss(logits, labels, bounds, quantile, weight):
    """Cross-entropy of the first len(labels) rows, "id", and weight times the others' confidence loss, "outliers".

    logits: [N + M, K], ID rows first, outliers after them. bounds: [M, K, K], upper bounds on f_k - f_l over the boxes
    around the outliers. The confidence loss of an outlier is log(1 + d² / 2) (Bitterwolf et al. 2020, eq. 8), where d
    bounds every difference of its logits: over its box for the share `quantile` with the smallest such d, rounded down,
    and at the outlier itself for the others (eq. 10).
    """
    inside, outside = logits.split([len(labels), len(logits) - len(labels)])
    guaranteed, clean = bounds.amax((1, 2)), outside.amax(1) - outside.amin(1)
    easy, hard = guaranteed.argsort(stable=True).tensor_split([int(quantile * len(outside))])
    largest = torch.cat([guaranteed[easy], clean[hard]])
    return {"id": cross_entropy(inside, labels), "outliers": weight * torch.log1p(largest**2 / 2).mean()}


def train(network, parts, data, settings, **run):
    """Epsilon and the outliers' weight rise linearly to `epsilon` and `outlier_weight` over their shares of the epochs.

    Adam, with the learning rate / 5 at 50, 83 and 94 % of the epochs, as the published code has it for CIFAR-10, but
    from fresh weights, where the paper starts from a network trained for low confidence on outliers.
    """

    def loss(batch):
        epsilon = settings["epsilon"] * ramp(batch.progress, settings["epsilon_ramp"])
        weight = settings["outlier_weight"] * ramp(batch.progress, settings["weight_ramp"])
        lower, upper = (batch.outliers - epsilon).clamp(min=0), (batch.outliers + epsilon).clamp(max=1)
        bounds = logit_difference_bounds(network, lower, upper)
        logits = network(torch.cat([batch.images, batch.outliers]))
        return good_loss(logits, batch.labels, bounds, settings["quantile"], weight)

    optimizer = torch.optim.Adam(
        network.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"]
    )
    recipe = {"optimizer": optimizer, "milestones": (0.5, 0.83, 0.94), "decay": 0.2, "autocast": False}
    return fit(network, loss, data, settings, **recipe, **run)
