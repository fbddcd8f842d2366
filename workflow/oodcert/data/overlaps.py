"""Classes of an outlier set that show what the in-distribution set shows: data/overlaps.csv."""

import csv
from pathlib import Path

from oodcert.errors import InputError

OVERLAPS = Path(__file__).parents[3] / "data" / "overlaps.csv"
COLUMNS = ["outliers", "id", "class", "name", "id_class", "reason"]


def overlapping(outliers, id):
    """{class: reason} of the classes of the set `outliers` to leave out where `id` is in-distribution; {} for none.

    class: as `class_names` gives it, of Tiny ImageNet a wnid. reason: "same" where its images are of an ID class, a
    kind or a part of one, "look-alike" where they may be taken for one. Judged by the names alone; the file says by
    which ID class. Raises InputError where it is not such a table.
    """
    try:
        with open(OVERLAPS, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{OVERLAPS}: unreadable ({error}). Restore it from the repository.") from error
    for number, row in enumerate(rows, 2):
        if list(row) != COLUMNS or row["reason"] not in ("same", "look-alike"):
            raise InputError(f"{OVERLAPS}, line {number}: not the columns {', '.join(COLUMNS)}. Correct the line.")
    return {row["class"]: row["reason"] for row in rows if (row["outliers"], row["id"]) == (outliers, id)}
