"""What an evaluation costs: images through each network, and rows of evidence. Imports no torch.

Counted as the devices work: passes include the padding of batches to their one size, and every noise draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from oodcert.config.method_specs import MethodSpec
from oodcert.config.models import Config, LinfAttackBudget
from oodcert.runtime.padding import images_per_batch, padded_count

Certainty = Literal["exact", "at most", "estimate"]
EXACT: Certainty = "exact"
AT_MOST: Certainty = "at most"
ESTIMATE: Certainty = "estimate"
Passes = dict[str, tuple[int, int]]  # component -> images forward and backward


@dataclass(frozen=True)
class Cost:
    """Images that are evaluated, rows of evidence, how sure the passes are, and these by component."""

    images: int
    rows: int
    certainty: Certainty
    passes: Passes


def ood_images(config: Config) -> int:
    """Images of all OOD sets together."""
    return len(config.data.ood) * config.data.test_images


def draws_of(spec: MethodSpec, draws: int) -> int:
    """Noise draws of a method: one, unless it is randomised."""
    return draws if spec.is_randomised else 1


def through(spec: MethodSpec, forward: int, backward: int = 0, discriminator_alone: int = 0) -> Passes:
    """Passes where every component sees every image. discriminator_alone: further ones, of the discriminator."""
    more = {"discriminator": discriminator_alone}
    return {name: (forward + more.get(name, 0), backward + more.get(name, 0)) for name in spec.components}


def deployed_passes(config: Config, spec: MethodSpec, images: int, batch_size: int | None = None) -> int:
    """Passes of the deployed method's scores of one set."""
    draws = draws_of(spec, config.evaluation.draws)
    size = batch_size or config.evaluation.batch_size
    return draws * padded_count(images, images_per_batch(size, draws, config.data.test_images))


def sampled_passes(config: Config, images: int, looks: list[int]) -> int:
    """Passes of noise draws of one set: of at most looks[-1] an image, in full batches but for the last.

    With several looks, and in one go, a batch is short only where every image under way has come to the end of its
    draws until the next look, so at most one a look.

    Args:
        config: for its batch size.
        images: of the set.
        looks: numbers of draws at which sampling may stop, ascending.

    Returns:
        The number of passes, at most.
    """
    size = config.evaluation.batch_size
    return (images * looks[-1] + len(looks) * (size - 1)) // size * size


def linf_attack_passes(
    config: Config, spec: MethodSpec, images: int, budget: LinfAttackBudget, batch_size: int
) -> tuple[int, int, int]:
    """Passes of the l-infinity ensemble on one OOD set: (forward, backward, those of the discriminator alone)."""
    joint, draws = spec.discriminator, draws_of(spec, budget.draws)
    padded = padded_count(images, images_per_batch(batch_size, draws, images))
    starts = 1 + 2 * budget.pgd.restarts + joint  # decontrast, uniform and gaussian, and the discriminator's
    gradients = budget.apgd.restarts * (1 + budget.apgd.iterations)
    gradients += starts * (1 + budget.pgd.iterations)
    candidates = 6 + joint  # the clean image and each attack's
    forward = draws * padded * (gradients + budget.square.queries)
    forward += candidates * deployed_passes(config, spec, images, batch_size)
    return forward, draws * padded * gradients, joint * padded * (1 + budget.pgd.iterations)
