"""Certificates in pieces, so that an interrupted command goes on where it stopped and ends with the same bytes."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

import oodcert
from oodcert.cli.inputs import Images
from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import read_evidence, sidecar, write_evidence
from oodcert.runtime.keyed_noise import derive_seed

DRAWS = 100_000  # in a piece: the most that an interruption loses


@dataclass(frozen=True, eq=False)
class Piece:
    """Images start to stop - 1 of a set at one sigma. path: where its rows are kept until all sets are finished."""

    images: Images
    sigma: float
    start: int
    stop: int
    path: Path

    def __len__(self):
        return self.stop - self.start

    def done(self):
        return sidecar(self.path).exists()

    def certify(self, detector, settings, against=None):
        """Rows of `oodcert.certify`; they depend on the network, the piece and the arguments alone.

        against: None, or evidence of the ID set at all sigmas.
        """
        name, span = self.images.name, slice(self.start, self.stop)
        torch.manual_seed(
            derive_seed(settings["seed"], name, self.sigma, self.start)
        )  # of networks with draws of their own
        keys = ("radii", "n", "alpha", "bounds", "sampling", "seed", "batch_size", "device", "precision")
        return oodcert.certify(
            detector,
            self.images.pixels[span],
            self.sigma,
            decision_thresholds=None if against is None else against[against["sigma"] == self.sigma],
            ids=self.images.positions[span],
            name=f"certify/{name}",
            **{key: settings[key] for key in keys},
        )


def cut(images, settings, folder):
    """The pieces of a set, about DRAWS draws each."""
    size = max(1, DRAWS // settings["n"])
    return [
        Piece(images, sigma, start, min(start + size, len(images)), folder / images.name / f"{sigma}-{start}.parquet")
        for sigma in settings["sigma"]
        for start in range(0, len(images), size)
    ]


def certify_sets(pieces, evidence, detector, settings, weights):
    """Certifies the pieces that are not done yet, under one progress bar, and writes the sets' evidence files.

    pieces: set -> its pieces, the ID set first; evidence: set -> its file, also of sets without pieces, which are
    finished; weights: their file, or None. Adaptive sampling certifies the ID set at radius 0 alone, and the OOD sets
    as far as the guaranteed AUC against it needs.
    """
    inside, adaptive = settings["id"], settings["sampling"] == "adaptive"
    every = [piece for part in pieces.values() for piece in part]
    done = sum(len(piece) for piece in every if piece.done())
    with tqdm(total=sum(map(len, every)), initial=done, desc="certify", unit="image") as bar:
        for name, part in pieces.items():
            own, against = settings, None
            if adaptive and name == inside:
                own = {**settings, "radii": [0.0]}
            elif adaptive:
                against = read_evidence([evidence[inside]])
            for piece in part:
                if not piece.done():
                    provenance = Provenance(settings)
                    write_evidence(piece.certify(detector, own, against), piece.path, provenance)
                    bar.update(len(piece))
            inputs = [path for path in (weights, part[0].images.path) if path and Path(path).is_file()]
            join(part, evidence[name], settings, inputs)


def join(pieces, path, settings, inputs):
    """Writes a set's evidence: the rows of its pieces, and the seconds and network calls that they took together."""
    rows = read_evidence([piece.path for piece in pieces])
    seconds = sum(json.loads(sidecar(piece.path).read_text())["wall_seconds"] for piece in pieces)
    calls = int(rows.drop_duplicates(["sigma", "image"])["n"].sum())
    provenance = Provenance(settings, inputs)
    write_evidence(rows, path, provenance, wall_seconds=round(seconds, 2), network_calls=calls)
