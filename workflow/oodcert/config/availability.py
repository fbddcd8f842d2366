"""Which of the config's image sets are available here."""

from __future__ import annotations

from oodcert.config.models import Config
from oodcert.data.settings import DataSettings
from oodcert.data.sources import encoding, missing, path_exists, training_sets, user_path
from oodcert.errors import InputError


def available(config: Config, trains: bool = True) -> Config:
    """The config with `data.ood` cut to the available sets, and `data.unavailable`, name -> why, completed.

    With a mirror (`data_mirror`) nothing is downloaded: what neither it nor the downloads hold is unavailable.

    Args:
        config: the checked config.
        trains: whether any component is trained, so that outliers are needed.

    Returns:
        The config whose sets are all available.

    Raises:
        InputError: on needed images that are unavailable, on an ID set whose test images are its training images, if
            nothing of data.ood is left, and on sets that JPEG left its marks on beside others, unless
            data.jpeg_quality makes them alike.
    """
    data, mirror = config.data, config.data_mirror
    _check_own(data)
    needed = training_sets(data)[: 3 if trains else 2]
    for name, split in needed:
        why = missing(name, split, data, mirror)
        if why:
            raise InputError(f"The {split} images of {name!r}, which everything needs, are unavailable: {why}.")
    reasons = {name: data.unavailable.get(name) or missing(name, "test", data, mirror) for name in data.ood}
    unavailable = {name: why for name, why in reasons.items() if why}
    ood = tuple(name for name in data.ood if name not in unavailable)
    if not ood:
        listed = "; ".join(f"{name}: {why}" for name, why in unavailable.items())
        raise InputError(f"No set of data.ood is available: {listed}.")
    _check_encodings({encoding(*one, data, mirror) for one in [*needed, *((name, "test") for name in ood)]}, data)
    return config.changed(data={"ood": ood, "unavailable": unavailable})


def _check_own(data: DataSettings) -> None:
    """Whether the user's image sets exist, and the ID set among them has images for training and others for testing."""
    for name, path in data.own.items():
        if not path_exists(path):
            raise InputError(f"Config key data.own.{name} = {path!r} does not exist: correct the path.")
        if {"{", "}"} & set(str(path)):
            raise InputError(
                f"Config key data.own.{name} = {path!r}: Snakemake takes braces for wildcards. Rename the path."
            )
    if data.id in data.own and user_path(data.own[data.id], "train") == user_path(data.own[data.id], "test"):
        raise InputError(
            f"Config key data.own.{data.id}: as the ID set it needs images for training and others for testing. "
            "Name a folder that holds a train.npz and a test.npz."
        )


def _check_encodings(stored: set[str], data: DataSettings) -> None:
    """Whether all image sets were stored alike, or are made alike by data.jpeg_quality."""
    quality = data.jpeg_quality
    if len(stored) > 1 and (quality is None or stored - {"lossless", f"jpeg{quality}"}):
        (coded,) = stored - {"lossless"}
        raise InputError(
            f"The image sets were stored differently ({', '.join(sorted(stored))}), which a detector can tell: set "
            f"data.jpeg_quality to {coded.removeprefix('jpeg')}, so that all of them have been through JPEG alike."
        )
