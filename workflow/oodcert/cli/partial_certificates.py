"""Certificates in partial results, so that an interrupted command goes on where it stopped and gives the same bytes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from oodcert.cli import one_pass, smoothed
from oodcert.cli.certify_settings import CertifySettings
from oodcert.cli.inputs import PROBE
from oodcert.data.imageset import ImageSet
from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import read_evidence, write_evidence
from oodcert.execution.partial_results import Facts, cache_key, folder_of, load_partial, save_partial
from oodcert.models.detector import Detector
from oodcert.runtime.keyed_noise import derive_seed

KINDS = {"smoothed": smoothed, "one-pass": one_pass}  # of --detector
DRAWS = 100_000  # in a partial result: the most that an interruption loses


@dataclass(frozen=True, eq=False)
class ImageRange:
    """Images start to stop - 1 of a set at one sigma. path: of their partial result, which is valid for the key."""

    images: ImageSet
    sigma: float
    start: int
    stop: int
    path: Path
    key: str

    def __len__(self) -> int:
        return self.stop - self.start

    def load(self) -> tuple[pd.DataFrame, Facts] | None:
        """The partial result, rows and facts; None if there is no valid one."""
        return load_partial(self.path, self.key)

    def certify(
        self, detector: Detector, settings: CertifySettings, id_rows: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Certifies the images.

        Args:
            detector: what is certified.
            settings: all that decides the results.
            id_rows: None, or evidence of the ID set at all sigmas, against which adaptive sampling stops.

        Returns:
            Its evidence rows. They depend on the network, the images and the arguments alone.
        """
        images = self.images.chosen(slice(self.start, self.stop))
        # for networks that are random
        torch.manual_seed(derive_seed(settings.seed, images.name, self.sigma, self.start))
        return KINDS[settings.detector].evidence_rows(detector, images, self.sigma, settings, id_rows)


def image_ranges(images: ImageSet, settings: CertifySettings, evidence: Path) -> list[ImageRange]:
    """Divides a set.

    Args:
        images: the set.
        settings: all that decides the results.
        evidence: the set's evidence file, beside which the partial results lie.

    Returns:
        The ranges, of about DRAWS draws each.
    """
    size = max(1, DRAWS // settings.n)
    same = {
        name: value for name, value in settings.as_json().items() if name != PROBE
    }  # which was compared, but for rounding
    key = cache_key(Provenance(same), settings.device)
    return [
        ImageRange(
            images, sigma, start, min(start + size, len(images)), folder_of(evidence) / f"{sigma}-{start}.partial", key
        )
        for sigma in settings.sigma
        for start in range(0, len(images), size)
    ]


def certify_sets(
    ranges: Mapping[str, Sequence[ImageRange]],
    evidence: Mapping[str, Path],
    detector: Detector,
    settings: CertifySettings,
    weights: str | None,
    paths: Mapping[str, Path],
) -> None:
    """Certifies the ranges without a partial result, under one progress bar, and writes the sets' evidence files.

    Adaptive sampling certifies the ID set at radius 0 alone, and the OOD sets as far as the guaranteed AUC against it
    needs.

    Args:
        ranges: set -> its ranges, the ID set first.
        evidence: set -> its file, also of sets without ranges, which are finished.
        detector: what is certified.
        settings: all that decides the results.
        weights: file of the network's weights, or None.
        paths: set -> the file or folder that it is read from.
    """
    id_name, adaptive = settings.id, settings.sampling == "adaptive"
    every = [one for several in ranges.values() for one in several]
    results = {one: result for one in every if (result := one.load())}
    done = sum(map(len, results))
    with tqdm(total=sum(map(len, every)), initial=done, desc="certify", unit="image") as bar:
        for name, several in ranges.items():
            used, id_rows = settings, None
            if adaptive and name == id_name:
                used = replace(settings, radii=[0.0])
            elif adaptive:
                id_rows = read_evidence([evidence[id_name]])
            for one in several:
                if one not in results:
                    started = time.monotonic()
                    rows, facts = one.certify(detector, used, id_rows), {"wall_seconds": time.monotonic() - started}
                    save_partial(one.path, rows, one.key, **facts)
                    results[one] = (rows, facts)
                    bar.update(len(one))
            inputs = [path for path in (weights, paths[name]) if path and Path(path).is_file()]
            _write([results.pop(one) for one in several], evidence[name], settings, inputs)


def _write(
    results: Sequence[tuple[pd.DataFrame, Facts]], path: Path, settings: CertifySettings, inputs: Iterable[str | Path]
) -> None:
    """Writes a set's evidence: all rows, and the seconds and network calls that they took together."""
    rows = pd.concat([rows for rows, _ in results], ignore_index=True)
    seconds = sum(facts["wall_seconds"] for _, facts in results)
    calls = KINDS[settings.detector].network_calls(rows)
    write_evidence(
        rows, path, Provenance(settings.as_json(), inputs), wall_seconds=round(seconds, 2), network_calls=calls
    )
