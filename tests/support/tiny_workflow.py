"""The whole workflow on tiny settings, as a config and as a command of Snakemake."""

import sys
from pathlib import Path
from typing import Any

import yaml

from conftest import ROOT, read_config, shrink

TEN = tuple(read_config()["methods"])


def tiny(*methods: str) -> dict[str, Any]:
    """The tiny config of all ten methods, or of those named, with one OOD set of each kind."""
    config = shrink(read_config())
    config["data"]["ood"] = ["held_out_digits", "photo_crops", "gaussian_noise"]
    config["methods"] = {name: config["methods"][name] for name in methods or TEN}
    return config


def command(folder: Path, *arguments: object, config: dict[str, Any] | None = None) -> list[str]:
    """A snakemake command in a folder, on the tiny config."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config or tiny(), sort_keys=False))
    start = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    return [*map(str, start), *map(str, arguments), "--configfile", str(path)]
