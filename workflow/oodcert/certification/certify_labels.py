"""Certified classification of ID images by randomized smoothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from torch import Tensor, nn

from oodcert.certification.adaptive import StoppingRule
from oodcert.certification.given import by_name, checked_images, checked_radii, checked_settings, try_networks
from oodcert.certification.joint_sampling import SmoothingSettings, certify_jointly
from oodcert.certification.smoothing_bounds import proportion_bounds, vote_radius
from oodcert.errors import InputError
from oodcert.models.checks import refuse_rows
from oodcert.models.outputs import TWO_LOGITS
from oodcert.runtime.values import whole_number, whole_numbers

ABSTAIN = -1
LABELS = "give the class of each image as an integer from 0, of one-hot rows their argmax(1)"
NO_VOTE = -1  # of a draw whose logits are not finite
DOUBT = 0.1  # how often sampling may stop although further draws would have shown the next radius


def certify_labels(
    network: nn.Module | dict[str, nn.Module],
    images: Tensor | ArrayLike,
    labels: Sequence[int] | ArrayLike | Tensor,
    sigma: float,
    n0: int = 100,
    n: int = 10_000,
    alpha: float = 1e-3,
    seed: int = 0,
    batch_size: int | None = None,
    sampling: str = "fixed",
    *,
    radii: Sequence[float] | float = (0.0, 0.25, 0.5, 0.75, 1.0),
    precision: str = "float32",
    ids: Sequence[int] | np.ndarray | None = None,
    name: str = "",
    progress: str | None = None,
) -> pd.DataFrame:
    """Predictions of the smoothed classifier, and the l2 radius within which each cannot change.

    n0 draws choose the class. n fresh draws bound its probability. Each image's radius holds with probability
    ≥ 1 - alpha.

    Args:
        network: Images [N, C, H, W] to logits [N, K]. Or a dict of such networks by name: these are certified on the
            same draws and share the pass through a denoiser that they have in common.
        images: Float tensor or array [N, C, H, W] in [0, 1]. The networks are moved to its device.
        labels: N integers in [0, K), by position.
        sigma: Standard deviation of the noise, in the pixel scale [0, 1].
        n0: Draws an image that choose the class, at least 1.
        n: Draws an image that bound the probability of the class.
        alpha: Error probability of each radius, below one half.
        seed: Of the noise.
        batch_size: Of every forward pass; by default 500, or fewer if images are large or the device is a CPU.
        sampling: "fixed", or "adaptive" with at most n draws: an image is finished once its radius will not pass
            another of the `radii`.
        radii: l2 radii that matter to adaptive sampling.
        precision: Of the networks, "float32" or "bfloat16" (see oodcert.certification.precision).
        ids: Sample ids that key the noise, by default the positions.
        name: Of the set; it keys the noise too.
        progress: Label of a progress bar.

    Returns:
        A row per image: image (id), prediction (-1: abstains), radius (rounded down; 0 where it abstains), correct, n
        (draws used, without n0). Of a dict of networks, after a column network.

    Raises:
        InputError: Images lie outside [0, 1], a label is no class, logits are not finite, a setting is unknown, or a
            network gives no class to an image alone (docs/inputs.md).

    Source: Cohen et al. 2019, https://arxiv.org/abs/1902.02918
    """
    given, networks = checked_images(images, ids), by_name(network, "network")
    classes = whole_numbers("labels", labels, len(given.ids), LABELS)
    n0 = whole_number("n0", n0, lambda n: n > 0, "at least one draw is needed to choose the class")
    settings = checked_settings(SmoothingSettings(sigma, n, alpha, sampling, seed, batch_size, precision, name))
    rule, distances = StoppingRule(*settings.schedule()), checked_radii(radii)
    try_networks(networks.values(), given, lambda one, _, logits: _check_classes(one, classes, logits))
    certifiers = {key: _LabelCertifier(one, settings.sigma, n0, rule, distances) for key, one in networks.items()}
    looks = [n0 + drawn for drawn in rule.draws]
    certificates = certify_jointly(certifiers, given.images, given.ids, looks, settings, progress)
    table = _table(certificates, given.ids, classes)
    return table if isinstance(network, Mapping) else table.drop(columns="network")


def _check_classes(network: nn.Module, labels: Sequence[int], logits: Tensor) -> None:
    """Refuses a network with one output, and labels that are none of its classes."""
    name, classes = type(network).__name__, logits.shape[1]
    if classes == 1:
        raise InputError(f"{name} has one output: {TWO_LOGITS}.")
    if max(labels) >= classes:
        raise InputError(f"labels hold {max(labels)}, but {name} has {classes} classes: {LABELS}, below {classes}.")


class _Votes(NamedTuple):
    """The class that the first n0 draws choose, its votes among the others, and their number."""

    winner: int
    agreeing: int
    drawn: int


class _LabelCertificate(NamedTuple):
    prediction: int
    radius: float
    drawn: int


@dataclass(frozen=True)
class _LabelCertifier:
    """The certificates of one network: its draws are votes for classes."""

    network: nn.Module
    sigma: float
    n0: int
    rule: StoppingRule
    radii: Sequence[float]

    def values(self, logits: Tensor, finite: Tensor) -> Tensor:
        return logits.argmax(1).where(finite, NO_VOTE)

    def refuse(self, values: np.ndarray) -> None:
        refuse_rows(self.network, values == NO_VOTE)

    def is_converged(self, draws: np.ndarray) -> bool:
        """Whether the radius passes as many of the radii as it would if the vote went on as well as can be hoped."""
        votes, n = self._count(draws), self.rule.draws[-1]
        certified = vote_radius(votes.agreeing, votes.drawn, self.sigma, self.rule.level(votes.drawn))
        still_to_agree = int(np.ceil(proportion_bounds(votes.agreeing, votes.drawn, DOUBT)[1] * (n - votes.drawn)))
        hoped = vote_radius(votes.agreeing + still_to_agree, n, self.sigma, self.rule.levels[-1])
        return _passed(certified, self.radii) >= _passed(hoped, self.radii)

    def certificate(self, draws: np.ndarray) -> _LabelCertificate:
        votes = self._count(draws)
        radius = float(vote_radius(votes.agreeing, votes.drawn, self.sigma, self.rule.level(votes.drawn)))
        return _LabelCertificate(votes.winner if radius > 0 else ABSTAIN, radius, votes.drawn)

    def _count(self, draws: np.ndarray) -> _Votes:
        winner = int(np.bincount(draws[: self.n0]).argmax())
        return _Votes(winner, int((draws[self.n0 :] == winner).sum()), len(draws) - self.n0)


def _passed(radius: np.ndarray, radii: Sequence[float]) -> int:
    """How many of the radii are certified; none where the classifier abstains."""
    return int((np.asarray(radii) <= radius).sum()) if radius > 0 else 0


def _table(
    certificates: Mapping[str, list[_LabelCertificate]],
    ids: Sequence[int],
    labels: Sequence[int],
) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "network": name,
                "image": ids[position],
                "prediction": one.prediction,
                "radius": one.radius,
                "correct": one.radius > 0 and one.prediction == labels[position],
                "n": one.drawn,
            }
            for name, certified in certificates.items()
            for position, one in enumerate(certified)
        ]
    )
