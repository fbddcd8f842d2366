"""What `oodcert certify` does: evidence of every set, in partial results that can be resumed, then table and figure."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch

from oodcert.certification.monte_carlo import default_batch_size
from oodcert.cli.certify_settings import CertifySettings
from oodcert.cli.inputs import (
    PROBE,
    check_folder,
    images_sha256,
    load_detector,
    load_image_sets,
    named_paths,
    prepare_device,
)
from oodcert.cli.partial_certificates import KINDS, ImageRange, certify_sets, image_ranges
from oodcert.data.imageset import ImageSet
from oodcert.errors import InputError
from oodcert.evidence.store import read_evidence, sidecar, write_json
from oodcert.execution.partial_results import folder_of
from oodcert.models.detector import Detector
from oodcert.models.fingerprint import PROBES, network_sha256, probe_scores
from oodcert.runtime.source_files import code_sha256
from oodcert.runtime.tracing import traced


def certify_image_sets(options: argparse.Namespace) -> None:
    """Certifies all sets into the folder options.out, or with options.dry_run says what that would take."""
    device = prepare_device(options)
    detector, paths = load_detector(options, device), named_paths(options)
    sets = load_image_sets(paths, options, detector, device)
    settings, out = settings_of(options, detector, sets, device), Path(options.out)
    evidence, kind = {name: out / f"{name}.parquet" for name in sets}, KINDS[options.detector]
    outputs = [*evidence.values(), *(out / name for name in kind.OUTPUTS)]
    check_folder(out, settings.as_json(), outputs)
    # settings that do not go together end here, with nothing written; and nothing compiled for a single image
    seconds_of_batch(detector, sets, replace(settings, precision="float32"), 1)
    missing = {name: images for name, images in sets.items() if not sidecar(evidence[name]).exists()}
    ranges = {name: image_ranges(images, settings, evidence[name]) for name, images in missing.items()}
    if options.dry_run:
        print(plan(detector, sets, settings, ranges, outputs))
        return
    if all(path.exists() for path in outputs):
        print(f"{out} holds the results of this command: nothing to do.")
    else:
        write_json(settings.as_json(), out / "settings.json")
        with traced(options.profile_trace) if options.profile_trace else nullcontext():
            certify_sets(ranges, evidence, detector, settings, options.weights, paths)
        rows = {name: read_evidence([path]) for name, path in evidence.items()}
        print(kind.conclude(rows, settings, {name: len(images) for name, images in sets.items()}, out))
    for path in evidence.values():
        shutil.rmtree(folder_of(path), ignore_errors=True)


def settings_of(
    options: argparse.Namespace, detector: Detector, sets: Mapping[str, ImageSet], device: str
) -> CertifySettings:
    """Everything that decides the results."""
    id_name, *ood_names = sets
    complete_options(options)
    probe = torch.from_numpy(sets[id_name].chosen(slice(PROBES)).floats()).to(device)
    hashes = {
        "network_sha256": network_sha256(detector.network),
        "code_sha256": code_sha256(name.partition(":")[0] for name in (options.network, options.score) if ":" in name),
        PROBE: probe_scores(detector, probe, max(options.sigma)),
        **{f"{name}_sha256": images_sha256(images) for name, images in sets.items()},
    }
    shared = {key: getattr(options, key) for key in ("network", "score", "images", "size", "detector", "confidence")}
    return CertifySettings(
        hashes=hashes,
        id=id_name,
        ood=ood_names,
        sigma=sorted(set(options.sigma)),
        radii=sorted({0.0, *options.radii}),
        seed=options.seed,
        precision=options.precision,
        batch_size=options.batch_size or default_batch_size(sets[id_name].shape, device),
        device=device,
        **shared,
        **{"n": options.n} | KINDS[options.detector].settings(options, detector),
    )


def complete_options(options: argparse.Namespace) -> None:
    """Gives the options of --detector their defaults.

    Args:
        options: the parsed arguments of the command, which are changed.

    Raises:
        InputError: if an option of another detector was given.
    """
    ours = KINDS[options.detector].ALONE
    for detector, kind in KINDS.items():
        for name in kind.ALONE:
            if name not in ours and getattr(options, name) not in (None, False):
                raise InputError(f"--{name} belongs to --detector {detector}, not {options.detector}: leave it out.")
    for name, default in ours.items():
        if getattr(options, name) is None:
            setattr(options, name, default)


def plan(
    detector: Detector,
    sets: Mapping[str, ImageSet],
    settings: CertifySettings,
    ranges: Mapping[str, Sequence[ImageRange]],
    outputs: Sequence[Path],
) -> str:
    """What the command would do: images, network calls, the measured time of a batch, the time left, the files."""
    n, batch = settings.n, settings.batch_size
    seconds_of_batch(detector, sets, settings, batch)  # the first one also warms up
    seconds = seconds_of_batch(detector, sets, settings, batch)
    count, sigmas = sum(map(len, sets.values())), len(settings.sigma)
    calls = n * sum(len(one) for several in ranges.values() for one in several if one.load() is None)
    most = "at most " if settings.sampling == "adaptive" else ""
    lines = {
        "images": ", ".join(f"{name} {len(images)}" for name, images in sets.items()),
        "network calls": f"{most}{count * n * sigmas:,} (images x n x sigmas), of which left {calls:,}",
        "one batch": f"{seconds:.3g} s for {batch} calls on {settings.device}",
        "time left": f"{most or 'about '}{timedelta(seconds=round(seconds * calls / batch))} (h:mm:ss)",
        "files": ", ".join(map(str, outputs)),
    }
    return "\n".join(f"{key:<15}{value}" for key, value in lines.items())


def seconds_of_batch(detector: Detector, sets: Mapping[str, ImageSet], settings: CertifySettings, size: int) -> float:
    """Seconds of one batch of the certificate, `size` draws of one image."""
    one_image = ImageRange(next(iter(sets.values())), settings.sigma[0], 0, 1, path=Path(), key="")
    started = time.perf_counter()
    one_image.certify(detector, replace(settings, sampling="fixed", n=size, batch_size=size))
    return time.perf_counter() - started
