"""The digits profile: image sets made of what scikit-learn bundles, handwritten digits and two photographs.

Which digit and which square of a photograph belongs to which set is fixed in data/splits/digits.csv, written by
`python -m oodcert.data.bundled`. Columns: set; sample, the id (unique in the file); source, "digits", "china" or
"flower"; index, the row in scikit-learn's digits; top, left, size: a square of the photograph, in pixels.
The order of a set's rows is random, so its first n images are a fair sample of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from oodcert.data.imageset import ImageSet
from oodcert.data.sources import SPLITS
from oodcert.errors import InputError
from oodcert.runtime.files import atomic

COLUMNS = ("set", "sample", "source", "index", "top", "left", "size")
PHOTOS = ("china", "flower")

SEED = 0
CLASSES = 8
TEST_PER_CLASS = 50
SIDE = 8
PATCH_SIZES = (128, 96, 64, 48, 32, 24, 16)
DISTANCE = 8

Square = tuple[int, int, int]  # top, left, size in pixels


def build(set_name: str) -> ImageSet:
    """One whole set of the committed table.

    Args:
        set_name: a value of the table's column `set`.

    Returns:
        An ImageSet of uint8 [N, 8, 8, 1]. Labels are digits; those of 8 and 9, and of photographs, are -1.

    Raises:
        InputError: if the table lacks the set or is unreadable.
    """
    table = _table()
    rows = table[table["set"] == set_name]
    if rows.empty:
        raise InputError(f"{SPLITS} has no set {set_name!r}: choose from {', '.join(table['set'].unique())}.")
    images, labels = zip(*map(_image_and_label, rows.itertuples()), strict=True)
    return ImageSet(
        set_name, np.stack(images)[..., None], np.array(labels, np.int64), rows["sample"].to_numpy(np.int64)
    )


def digits_splits() -> pd.DataFrame:
    """The table of the committed csv, made anew: the same on every call.

    No two images of the table are equal. Those of the photographs differ by at least DISTANCE grey levels (root mean
    square) from one another: both photographs have large flat areas, which would give hundreds of near-duplicates.

    Returns:
        A DataFrame of COLUMNS.
    """
    rng = np.random.default_rng(SEED)
    images, labels = _digits()
    order = rng.permutation(len(labels))
    distinct = np.zeros(len(labels), bool)
    distinct[np.unique(images[order].reshape(len(labels), -1), axis=0, return_index=True)[1]] = True
    order = order[distinct]
    rank = pd.Series(labels[order]).groupby(labels[order]).cumcount().to_numpy()
    is_id, is_test = labels[order] < CLASSES, rank < TEST_PER_CLASS
    rows = [
        {"set": name, "sample": index, "source": "digits", "index": index}
        for name, chosen in (
            ("id_train", is_id & ~is_test),
            ("id_test", is_id & is_test),
            ("held_out_digits", ~is_id),
        )
        for index in order[chosen]
    ]
    taken = np.empty((0, SIDE, SIDE), np.int32)
    for name, source, draws in (
        ("photo_patches", "flower", [(PATCH_SIZES, 400)]),
        ("photo_crops", "flower", [((SIDE,), 400)]),
        ("outliers", "china", [(PATCH_SIZES, 1000), ((SIDE,), 1000)]),
    ):
        squares = []
        for sizes, count in draws:
            drawn, taken = _squares(rng, source, sizes, count, taken)
            squares += drawn
        for index in rng.permutation(len(squares)):
            top, left, size = squares[index]
            sample = ((PHOTOS.index(source) + 1) * 1000 + size) * 10**6 + top * 1000 + left
            rows.append({"set": name, "sample": sample, "source": source, "top": top, "left": left, "size": size})
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(COLUMNS[3:], "Int64"))


def _squares(
    rng: np.random.Generator, source: str, sizes: Sequence[int], count: int, taken: NDArray[np.int32]
) -> tuple[list[Square], NDArray[np.int32]]:
    """count squares (top, left, size) of a photograph whose images differ from all in `taken`, int32 [M, 8, 8].

    The squares of one size do not overlap; the sizes take turns as long as they have squares left.
    Returns the squares and `taken` with their images.
    """
    width, height = _photo(source).size
    queues = []
    for size in sizes:
        corners = [(y, x) for y in range(0, height - size + 1, size) for x in range(0, width - size + 1, size)]
        queues.append([(*corners[index], size) for index in rng.permutation(len(corners))])
    squares: list[Square] = []
    while len(squares) < count:
        for queue in queues:
            while queue and len(squares) < count:
                square = queue.pop()
                image = _square_image(source, *square).astype(np.int32)
                if (np.square(taken - image).mean(axis=(1, 2)) >= DISTANCE**2).all():
                    taken = np.concatenate([taken, image[None]])
                    squares.append(square)
                    break
    return squares, taken


def _image_and_label(row: Any) -> tuple[NDArray[np.uint8], int]:
    """uint8 [8, 8] and the class of one row of the table."""
    if row.source == "digits":
        images, labels = _digits()
        label = labels[row.index]
        return images[row.index], label if label < CLASSES else -1
    return _square_image(row.source, row.top, row.left, row.size), -1


def _square_image(source: str, top: int, left: int, size: int) -> NDArray[np.uint8]:
    """uint8 [8, 8]: a square of a photograph, each pixel the mean of its box."""
    square = _photo(source).crop((left, top, left + size, top + size))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BOX))


@cache
def _table() -> pd.DataFrame:
    try:
        table = pd.read_csv(SPLITS, dtype=dict.fromkeys(COLUMNS[3:], "Int64"))
    except (OSError, ValueError) as error:
        raise InputError(f"{SPLITS}: unreadable ({error}). Restore it from the repository.") from error
    if tuple(table.columns) != COLUMNS:
        raise InputError(
            f"{SPLITS}: columns {list(table.columns)} instead of {list(COLUMNS)}. Restore it from the repository."
        )
    return table


@cache
def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """uint8 [N, 8, 8] and the classes of scikit-learn's digits."""
    digits = load_digits()
    return np.rint(digits.images * 255 / 16).astype(np.uint8), digits.target.astype(np.int64)


@cache
def _photo(source: str) -> Image.Image:
    return Image.fromarray(load_sample_image(f"{source}.jpg")).convert("L")


if __name__ == "__main__":
    with atomic(SPLITS) as temporary:
        digits_splits().to_csv(temporary, index=False, lineterminator="\n")
