"""Classes of an outlier set that an ID set has as well, so that they are no outliers: data/overlaps.csv."""

from __future__ import annotations

from oodcert import paths
from oodcert.errors import InputError

OVERLAPS = paths.DATA_TABLES / "overlaps.csv"


def overlapping(outliers: str, id_set: str) -> tuple[str, ...]:
    """The classes to leave out of a set of outliers beside an ID set, look-alikes included.

    The classes were judged by their names. The table gives the ID class that each of them shows as the reason.

    Args:
        outliers: name of the outlier set.
        id_set: name of the ID set.

    Returns:
        Names of classes, of Tiny ImageNet wnids; () if none are known.

    Raises:
        InputError: if the table is unreadable.
    """
    import pandas as pd

    try:
        table = pd.read_csv(OVERLAPS)
        return tuple(table[(table["outliers"] == outliers) & (table["id"] == id_set)]["class"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{OVERLAPS}: unreadable ({error!r}). Restore it from the repository.") from error
