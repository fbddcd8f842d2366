"""The setting of a run, as far as reported values depend on it, and where it falls short of a claim's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from oodcert.config.external_weights import imported
from oodcert.config.models import Config, Training
from oodcert.reporting.display_names import label


@dataclass(frozen=True)
class Setting:
    """What a method's numbers rest on.

    Attributes:
        id_set: name of the ID set.
        network: name of the classifier's network; "released" or "own" if the classifier is imported.
        epochs: of its training, with those of the component that it starts from; None if it is not trained here.
        images: number of images of a test set.
    """

    id_set: str
    network: str
    epochs: int | None
    images: int


def setting_of(config: Config, method: str) -> Setting:
    """The Setting of a method's numbers."""
    component, imports = config.methods[method].classifier, imported(config)
    if component in imports:
        network, epochs = imports[component].network["name"], None
    else:
        network, epochs = config.networks.spec_of(component).as_json()["name"], _epochs(component, config.training)
    return Setting(config.data.id, network, epochs, config.data.test_images)


def lacking(needs: Mapping[str, str | int], config: Config, methods: Iterable[str]) -> list[str]:
    """Where a run falls short of what a claim needs, as texts; none if it does not.

    Released weights have the network and the training that any claim needs.

    Args:
        needs: id_set and network, names; epochs and images, the least numbers.
        config: the run's.
        methods: those that the claim is about.

    Returns:
        The texts, each once.
    """
    texts: dict[str, None] = {}
    for method in methods:
        here = asdict(setting_of(config, method))
        if here["network"] == "released":
            here |= {key: needs.get(key) for key in ("network", "epochs")}
        for key, wanted in needs.items():
            if isinstance(wanted, str):
                met, text = here[key] == wanted, f"{label(here[key])} instead of {label(wanted)}"
            else:
                met = here[key] is not None and here[key] >= wanted
                text = f"{'unknown' if here[key] is None else here[key]} {key} instead of {wanted}"
            if not met:
                texts[text] = None
    return list(texts)


def _epochs(component: str, training: Training) -> int:
    start = training[component].start_from
    return training[component].epochs + (training[start].epochs if start else 0)
