"""Parts that are not trained here: published weights, and networks of one's own. Imports no torch."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from oodcert import paths
from oodcert.config.method_specs import components_of, trained_components
from oodcert.data.registry import read_rows, registry
from oodcert.data.sources import DOWNLOADS

WEIGHTS = paths.DATA_TABLES / "weights.csv"


@dataclass(frozen=True)
class Weights:
    """A published file of one part's weights, for one ID set: a row of data/weights.csv.

    format: of `oodcert.load_checkpoint`; the other fields as of a row of data/registry.csv.
    """

    id: str
    part: str
    format: str
    file: str
    urls: tuple
    bytes: int | None
    sha256: str
    md5: str
    licence: str
    note: str


@dataclass(frozen=True)
class Import:
    """Where a part comes from: network, its entry under the config's networks; file, the path of its weights."""

    network: dict
    file: Path


@cache
def published():
    """(ID set, part) -> Weights. Raises InputError where data/weights.csv is not such a table."""
    return read_rows(WEIGHTS, Weights, ("id", "part"), {})


def imported(config):
    """Name -> Import of every part of the config's methods, and the denoiser, that is imported and not trained.

    Those under `imports` are one's own; with `weights: published` every other one that data/weights.csv has for the ID
    set is the published one. What it lacks is trained.
    """
    names = [*dict.fromkeys([*(part for one in config["methods"].values() for part in components_of(one)), "denoiser"])]
    found = {}
    for name in names:
        weights = published().get((config["data"]["id"], name))
        if name in config["imports"]:
            own = config["imports"][name]
            found[name] = Import({"name": "own", "network": own["network"]}, Path(own["weights"]))
        elif weights and config["weights"] == "published":
            found[name] = Import({"name": "published", "format": weights.format}, DOWNLOADS / weights.file)
    return found


def trained(config):
    """Names of the parts that are trained, each after those that it needs: the methods', and the denoiser, examples of
    which are shown whether or not a method uses it."""
    imports = imported(config)
    parts = [*trained_components(config["methods"], config["training"], imports), "denoiser"]
    return [part for part in dict.fromkeys(parts) if part not in imports]


def networks_of(parts, config):
    """The config's networks, and those of imports, that these parts are built from."""
    specs = config["networks"] | {name: one.network for name, one in imported(config).items()}
    names = {part if part in specs else "classifier" for part in parts}
    return {name: specs[name] for name in sorted(names)}


def remote_files():
    """File name -> what `oodcert.data.download.fetch` needs, of all files in data/registry.csv and data/weights.csv."""
    return {entry.file: entry for entry in (*registry().values(), *published().values()) if entry.file}
