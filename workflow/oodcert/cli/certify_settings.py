"""What decides the results of `oodcert certify`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class CertifySettings:
    """All that decides the results of one command.

    Attributes:
        hashes: SHA-256 of the network, its code and the image sets, and the network's scores on a probe.
        network: as of --network.
        score: as of --score.
        id: name of the ID set.
        ood: names of the OOD sets.
        images: of every set, at most; None: all.
        size: of the images, in pixels; None: as they are.
        sigma: standard deviations of the noise.
        radii: l2 radii, with 0.
        detector: "smoothed" or "one-pass".
        n: noise draws for each image and sigma.
        confidence: of the metrics at one sigma and radius.
        sampling: "fixed" or "adaptive".
        seed: of the noise.
        precision: of the network.
        batch_size: of a forward pass.
        device: "cpu" or "cuda".
        alpha: error probability of each bound of the smoothed detector.
        bounds: those of the smoothed detector.
        population: whether the statement on the one-pass detector is on populations.
        tries: queries that the adversary of the one-pass detector has.
    """

    hashes: Mapping[str, Any]
    network: str
    score: str
    id: str
    ood: Sequence[str]
    images: int | None
    size: int | None
    sigma: Sequence[float]
    radii: Sequence[float]
    detector: str
    n: int
    confidence: float
    sampling: str
    seed: int
    precision: str
    batch_size: int
    device: str
    alpha: float | None = None
    bounds: Sequence[str] | None = None
    population: bool = False
    tries: int = 1

    def as_json(self) -> dict[str, Any]:
        """The settings as settings.json has them."""
        own = {key: value for key, value in asdict(self).items() if key != "hashes"}
        return {**self.hashes, **own}
