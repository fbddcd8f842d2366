"""Several networks certified on common draws: the sampler below `certify` and `certify_labels`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from oodcert.certification.adaptive import alpha_spending_schedule
from oodcert.certification.monte_carlo import CHANGES_INPUT, default_batch_size, sample, shared_denoising
from oodcert.certification.precision import check_precision, marked_logits, prepared
from oodcert.errors import InputError
from oodcert.models.calls import evaluation_mode

Certificate = TypeVar("Certificate")
CertificateOut = TypeVar("CertificateOut", covariant=True)


@dataclass(frozen=True)
class SmoothingSettings:
    """How networks are smoothed and sampled.

    Attributes:
        sigma: Standard deviation of the noise, in the pixel scale [0, 1].
        n: Noise draws an image, at most.
        alpha: Error probability of a bound.
        sampling: "fixed" or "adaptive".
        seed: Of the noise.
        batch_size: Of every forward pass; by default 500, or fewer if images are large.
        precision: Of the networks, "float32" or "bfloat16".
        name: Of the set of images; it keys the noise.
    """

    sigma: float
    n: int
    alpha: float
    sampling: str = "fixed"
    seed: int = 0
    batch_size: int | None = None
    precision: str = "float32"
    name: str = ""

    def __post_init__(self) -> None:
        check_precision(self.precision)

    def schedule(self) -> tuple[list[int], list[float]]:
        """Numbers of draws at which bounds are computed, and their levels."""
        return alpha_spending_schedule(self.sampling, self.n, self.alpha)


class DrawnNetwork(Protocol):
    """A network and the value that is taken of each of its draws.

    Attributes:
        network: Maps images [B, C, H, W] to logits [B, K].
    """

    @property
    def network(self) -> nn.Module: ...

    def values(self, logits: Tensor, finite: Tensor) -> Tensor:
        """Values [B] of logits [B, K], marked as missing where the logits are not finite, by `finite` [B]."""

    def refuse(self, values: np.ndarray) -> None:
        """Raises InputError where values [B], now on the host, are missing."""


class NetworkCertifier(DrawnNetwork, Protocol[CertificateOut]):
    """Certifies the images of one network from its draws."""

    def is_converged(self, draws: np.ndarray) -> bool:
        """Whether the draws of an image are enough."""

    def certificate(self, draws: np.ndarray) -> CertificateOut:
        """What the draws of an image certify."""


class JointCertification(Generic[Certificate]):
    """Which networks have certified which images. An image is drawn until the last network has finished it.

    Attributes:
        certificates: Network -> position of an image -> its certificate.
        unfinished: The networks that have an image of the present batch still to finish. The others are not computed.
    """

    def __init__(self, certifiers: Mapping[str, NetworkCertifier[Certificate]], precision: str) -> None:
        self.certifiers, self.precision = certifiers, precision
        self.certificates: dict[str, dict[int, Certificate]] = {name: {} for name in certifiers}
        self.unfinished = set(certifiers)

    def start_batch(self, positions: set[int]) -> None:
        """Notes which networks the next batch needs, which has draws of the images at these positions."""
        self.unfinished = {name for name, done in self.certificates.items() if not positions <= done.keys()}

    def evaluate(self, batch: Tensor) -> Tensor:
        """Values [B, D] of a batch of noisy images, a column a network."""
        return network_values(self.certifiers, batch, self.precision, self.unfinished)

    def refuse(self, values: np.ndarray) -> None:
        """Raises InputError where values [B, D] are missing."""
        refuse_values(self.certifiers, values)

    def is_finished(self, position: int, draws: np.ndarray) -> bool:
        """Whether every network has a certificate of the image, some of them from the present draws [n, D]."""
        for name, column in self._open_columns(position, draws):
            if self.certifiers[name].is_converged(column):
                self.certificates[name][position] = self.certifiers[name].certificate(column)
        return all(position in done for done in self.certificates.values())

    def finish(self, position: int, draws: np.ndarray) -> None:
        """Certifies the image from the present draws [n, D] by every network that has not done so."""
        for name, column in self._open_columns(position, draws):
            self.certificates[name][position] = self.certifiers[name].certificate(column)

    def _open_columns(self, position: int, draws: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        for name, column in zip(self.certifiers, draws.T, strict=True):
            if position not in self.certificates[name]:
                yield name, column


def certify_jointly(
    certifiers: Mapping[str, NetworkCertifier[Certificate]],
    images: Tensor,
    ids: Sequence[int],
    looks: Sequence[int],
    settings: SmoothingSettings,
    progress: str | None,
) -> dict[str, list[Certificate]]:
    """Certificates of all images by all networks, which see the same draws and share the pass through a denoiser.

    Args:
        certifiers: Networks by name, on the device of the images. They are in evaluation mode meanwhile.
        images: [N, C, H, W] in [0, 1].
        ids: N different sample ids that key the noise.
        looks: Numbers of draws at which an image is looked at.
        settings: How the networks are sampled.
        progress: Label of a progress bar.

    Returns:
        Network -> the certificates of the images, in their order.

    Raises:
        InputError: Logits or values are not finite, or a setting is unusable.
    """
    networks, device = [one.network for one in certifiers.values()], images.device
    joint = JointCertification(certifiers, settings.precision)
    default = default_batch_size(images.shape[1:], device)
    sampled = sample(
        joint.evaluate,
        images,
        ids,
        settings.name,
        sigma=settings.sigma,
        looks=looks,
        stopping=joint,
        refuse=joint.refuse,
        precision=settings.precision,
        seed=settings.seed,
        batch_size=default if settings.batch_size is None else settings.batch_size,
        progress=progress,
    )
    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(evaluation_mode(network))
        stack.enter_context(shared_denoising(networks))
        stack.enter_context(prepared(networks, device, settings.precision))
        for position, draws in sampled:
            joint.finish(position, draws)
    return {name: [done[position] for position in range(len(images))] for name, done in joint.certificates.items()}


def network_values(
    drawn: Mapping[str, DrawnNetwork], batch: Tensor, precision: str, needed: set[str] | None = None
) -> Tensor:
    """Values of a batch by several networks, without waiting for the device.

    Args:
        drawn: The networks by name.
        batch: Images [B, C, H, W] on the device of the networks.
        precision: "float32" or "bfloat16".
        needed: Names of the networks that are computed, at least one; None: all.

    Returns:
        Values [B, D], a column for each of the D networks, in their order; 0 in the columns of those that are not
        computed.

    Raises:
        InputError: One of the networks changes the batch in place.
    """
    version, columns = batch._version, {}
    for name, one in drawn.items():
        if needed is not None and name not in needed:
            continue
        columns[name] = one.values(*marked_logits(one.network, batch, precision))
        if len(drawn) > 1 and batch._version != version:
            raise InputError(CHANGES_INPUT)
    skipped = torch.zeros_like(next(iter(columns.values())))
    return torch.stack([columns.get(name, skipped) for name in drawn], 1)


def refuse_values(drawn: Mapping[str, DrawnNetwork], values: np.ndarray) -> None:
    """Raises InputError where values [B, D] of network_values, on the host, are missing."""
    for one, column in zip(drawn.values(), values.T, strict=True):
        one.refuse(column)
