"""Certificates in pieces, so that an interrupted command goes on where it stopped and ends with the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

import oodcert
from oodcert.data.imageset import ImageSet
from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import read_evidence, sidecar, write_evidence
from oodcert.models.detector import Detector
from oodcert.runtime.keyed_noise import derive_seed

DRAWS = 100_000  # in a piece: the most that an interruption loses


@dataclass(frozen=True, eq=False)
class Piece:
    """Images start to stop - 1 of a set at one sigma. path: where its rows are kept until all sets are finished."""

    images: ImageSet
    sigma: float
    start: int
    stop: int
    path: Path

    def __len__(self) -> int:
        return self.stop - self.start

    def done(self) -> bool:
        """Whether its rows and their sidecar are written."""
        return sidecar(self.path).exists()

    def certify(
        self, detector: Detector, settings: Mapping[str, Any], against: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Rows of `oodcert.certify`. They depend on the network, the piece and the arguments alone.

        Args:
            detector: to certify.
            settings: of the command, as of settings_of.
            against: evidence of the ID set at all sigmas; None: there is none yet.

        Returns:
            The table, of the piece's images.
        """
        name, images = self.images.name, self.images.chosen(slice(self.start, self.stop))
        torch.manual_seed(derive_seed(settings["seed"], name, self.sigma, self.start))  # for networks that are random
        keys = ("radii", "n", "alpha", "bounds", "sampling", "seed", "batch_size", "device", "precision")
        return oodcert.certify(
            detector,
            torch.from_numpy(images.floats()),
            self.sigma,
            decision_thresholds=None if against is None else against[against["sigma"] == self.sigma],
            ids=images.ids,
            name=f"certify/{name}",
            **{key: settings[key] for key in keys},
        )


def cut(images: ImageSet, settings: Mapping[str, Any], folder: Path) -> list[Piece]:
    """The pieces of a set, about DRAWS draws each."""
    size = max(1, DRAWS // settings["n"])
    return [
        Piece(images, sigma, start, min(start + size, len(images)), folder / images.name / f"{sigma}-{start}.parquet")
        for sigma in settings["sigma"]
        for start in range(0, len(images), size)
    ]


def certify_sets(
    pieces: Mapping[str, Sequence[Piece]],
    evidence: Mapping[str, Path],
    detector: Detector,
    settings: Mapping[str, Any],
    weights: str | None,
    paths: Mapping[str, Path],
) -> None:
    """Certifies the pieces that are not done yet, under one progress bar, and writes the sets' evidence files.

    Adaptive sampling certifies the ID set at radius 0 alone, and the OOD sets as far as the guaranteed AUC against it
    needs.

    Args:
        pieces: set -> its pieces, the ID set first.
        evidence: set -> its file, also of sets without pieces, which are finished.
        detector: what is certified.
        settings: all that decides the results.
        weights: file of the network's weights, or None.
        paths: set -> the file or folder that it is read from.
    """
    id_name, adaptive = settings["id"], settings["sampling"] == "adaptive"
    every = [piece for several in pieces.values() for piece in several]
    done = sum(len(piece) for piece in every if piece.done())
    with tqdm(total=sum(map(len, every)), initial=done, desc="certify", unit="image") as bar:
        for name, several in pieces.items():
            used, against = settings, None
            if adaptive and name == id_name:
                used = {**settings, "radii": [0.0]}
            elif adaptive:
                against = read_evidence([evidence[id_name]])
            for piece in several:
                if not piece.done():
                    provenance = Provenance(settings)
                    write_evidence(piece.certify(detector, used, against), piece.path, provenance)
                    bar.update(len(piece))
            inputs = [path for path in (weights, paths[name]) if path and Path(path).is_file()]
            join(several, evidence[name], settings, inputs)


def join(pieces: Sequence[Piece], path: Path, settings: Mapping[str, Any], inputs: Iterable[str | Path]) -> None:
    """Writes a set's evidence: the rows of its pieces, and the seconds and network calls that they took together."""
    rows = read_evidence([piece.path for piece in pieces])
    seconds = sum(json.loads(sidecar(piece.path).read_text())["wall_seconds"] for piece in pieces)
    calls = int(rows.drop_duplicates(["sigma", "image"])["n"].sum())
    provenance = Provenance(settings, inputs)
    write_evidence(rows, path, provenance, wall_seconds=round(seconds, 2), network_calls=calls)
