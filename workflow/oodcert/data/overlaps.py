"""Classes of an outlier set that an ID set has as well, so that they are no outliers: data/overlaps.csv."""

from oodcert import paths
from oodcert.errors import InputError

OVERLAPS = paths.DATA_TABLES / "overlaps.csv"


def overlapping(outliers, inside):
    """The classes to leave out of an outlier set beside an ID set, look-alikes included; () where none are known.

    Of Tiny ImageNet they are wnids. They were judged by their names; the table gives the ID class as the reason.
    """
    import pandas as pd

    try:
        table = pd.read_csv(OVERLAPS)
        return tuple(table[(table["outliers"] == outliers) & (table["id"] == inside)]["class"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{OVERLAPS}: unreadable ({error!r}). Restore it from the repository.") from error
