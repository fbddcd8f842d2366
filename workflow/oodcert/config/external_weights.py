"""Components that are not trained here: released weights, and networks of the user. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oodcert import paths
from oodcert.config.method_specs import trained_components
from oodcert.data.registry import Entry, read_rows, registry
from oodcert.data.sources import DOWNLOADS

if TYPE_CHECKING:
    from oodcert.config.models import Config

WEIGHTS = paths.DATA_TABLES / "weights.csv"


@dataclass(frozen=True)
class ReleasedWeights:
    """A released file of one component's weights, for one ID set: a row of data/weights.csv.

    Attributes:
        id: the ID set.
        component: name of the component.
        format: of `oodcert.load_checkpoint`.

    The other fields are as in a row of data/registry.csv (`oodcert.data.registry.Entry`).
    """

    id: str
    component: str
    format: str
    file: str
    urls: tuple[str, ...]
    bytes: int | None
    sha256: str
    md5: str
    licence: str
    note: str


@dataclass(frozen=True)
class Import:
    """Where an imported component comes from.

    Attributes:
        network: its entry, as under the config's networks.
        file: path of its weights.
    """

    network: dict[str, Any]
    file: Path


@cache
def released_weights() -> dict[tuple[str, str], ReleasedWeights]:
    """All rows of data/weights.csv.

    Returns:
        (ID set, component) -> ReleasedWeights.
    """
    rows = read_rows(WEIGHTS, ReleasedWeights, ("id", "component"), {})
    return {(row.id, row.component): row for row in rows.values()}


def imported(config: Config) -> dict[str, Import]:
    """The components that are imported and not trained: of the config's methods, and the denoiser.

    Those under `imports` are user-supplied. With `weights: released` every other component that data/weights.csv has
    for the ID set is the released one. What that file lacks is trained.

    Args:
        config: the checked config.

    Returns:
        Component -> its Import.
    """
    names = dict.fromkeys([*(name for spec in config.methods.values() for name in spec.components), "denoiser"])
    imports = {}
    for name in names:
        weights = released_weights().get((config.data.id, name))
        if name in config.imports:
            given = config.imports[name]
            imports[name] = Import({"name": "own", "network": given.network}, Path(given.weights))
        elif weights and config.weights == "released":
            imports[name] = Import({"name": "released", "format": weights.format}, DOWNLOADS / weights.file)
    return imports


def trained(config: Config) -> list[str]:
    """Names of the components that are trained, each after those that it needs: the methods', and the denoiser.

    Examples of the denoiser are shown whether or not a method uses it.

    Args:
        config: the checked config.

    Returns:
        The names, in an order in which they can be trained.
    """
    imports = imported(config)
    names = [*trained_components(config.methods, config.training, imports.keys()), "denoiser"]
    return [name for name in dict.fromkeys(names) if name not in imports]


def networks_of(components: Iterable[str], config: Config) -> dict[str, dict[str, Any]]:
    """The entries from which components are built: of the config's networks, and of imports.

    Args:
        components: names of components.
        config: the checked config.

    Returns:
        Name of an entry -> its values, sorted by name. An entry of several components is there once.
    """
    imports = imported(config)
    specs = {name: imports[name].network for name in components if name in imports}
    for name in components:
        if name not in imports:
            key = name if name in config.networks.model_fields_set else "classifier"
            specs[key] = config.networks.spec_of(name).as_json()
    return {name: specs[name] for name in sorted(specs)}


def user_modules(networks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The modules of user-supplied networks.

    Args:
        networks: name -> entry, as of networks_of.

    Returns:
        Their dotted names.
    """
    return [entry["network"].partition(":")[0] for entry in networks.values() if entry.get("name") == "own"]


def remote_files() -> dict[str, Entry | ReleasedWeights]:
    """File name -> what `oodcert.data.download.fetch` needs, of data/registry.csv and data/weights.csv."""
    entries: list[Entry | ReleasedWeights] = [*registry().values(), *released_weights().values()]
    return {entry.file: entry for entry in entries if entry.file}
