"""An image set in memory, and the one file format it is read from and written to."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodcert.data.archives import MAX_BYTES
from oodcert.data.image_files import decoded
from oodcert.data.npz import read_arrays
from oodcert.errors import InputError
from oodcert.runtime.files import atomic


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Named images with labels and sample ids.

    Attributes:
        name: name of the set.
        images: uint8 [N, H, W, C], N >= 1.
        labels: int64 [N], classes from 0, or -1 for out-of-distribution.
        ids: int64 [N], unique. A sample keeps its id in every shard, method and evaluation.

    Raises:
        InputError: if the arrays do not fit together.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]

    def __post_init__(self) -> None:
        for key, dtype, dimensions in (("images", np.uint8, 4), ("labels", np.int64, 1), ("ids", np.int64, 1)):
            array = getattr(self, key)
            if array.dtype != dtype or array.ndim != dimensions:
                raise InputError(
                    f"Image set {self.name!r}: {key} is {array.dtype} {list(array.shape)}, but it must be "
                    f"{np.dtype(dtype)} with {dimensions} dimension(s). {_REMEDIES[key]}"
                )
            if len(array) != len(self.images):
                raise InputError(
                    f"Image set {self.name!r}: {len(self.images)} images but {len(array)} {key}. "
                    f"Give one entry of {key} an image."
                )
        if self.images.size == 0:
            raise InputError(
                f"Image set {self.name!r} is empty (images {list(self.images.shape)}): it needs at least one image."
            )
        if self.labels.min() < -1:
            raise InputError(
                f"Image set {self.name!r}: label {self.labels.min()} is not a class. "
                "Number the classes from 0 and mark out-of-distribution images with -1."
            )
        ids, counts = np.unique(self.ids, return_counts=True)
        if len(ids) < len(self.ids):
            raise InputError(
                f"Image set {self.name!r}: id {ids[counts > 1][0]} occurs {counts.max()} times. "
                "Give every image another id."
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width), as the network and config data.image_shape have it."""
        height, width, channels = self.images.shape[1:]
        return channels, height, width

    def floats(self) -> NDArray[np.float32]:
        """The images as a contiguous float32 array [N, C, H, W] in [0, 1]."""
        return np.ascontiguousarray(self.images.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)

    def first(self, n: int) -> ImageSet:
        """The set's first n images.

        Args:
            n: how many images, from 1 to N.

        Returns:
            A set with the same name.

        Raises:
            InputError: unless 1 <= n <= N.
        """
        if not 1 <= n <= len(self):
            raise InputError(
                f"Image set {self.name!r} holds {len(self)} images, but {n} are asked for: "
                f"ask for 1 to {len(self)} (config data.test_images)."
            )
        return self.chosen(slice(n))

    def chosen(self, index: slice | NDArray[Any] | Sequence[int]) -> ImageSet:
        """A set of some of the images.

        Args:
            index: positions of the images: a slice, an array of positions or a mask [N].

        Returns:
            A set with the same name.
        """
        return ImageSet(self.name, self.images[index], self.labels[index], self.ids[index])

    def check(self, num_classes: int | None = None, image_shape: Sequence[int] | None = None) -> ImageSet:
        """The set itself, if it fits.

        Args:
            num_classes: labels must be below it; None: any.
            image_shape: (C, H, W) of the images; None: any.

        Returns:
            The set itself.

        Raises:
            InputError: on a larger label, and on images of another shape.
        """
        if num_classes is not None and self.labels.max() >= num_classes:
            raise InputError(
                f"Image set {self.name!r}: the class count disagrees: label {self.labels.max()} occurs, but "
                f"{num_classes} classes are configured (labels 0 to {num_classes - 1}). "
                "Correct data.num_classes or the labels."
            )
        if image_shape is not None and self.shape != tuple(image_shape):
            raise InputError(
                f"Image set {self.name!r}: the images are {list(self.shape)} (channels, height, width), but "
                f"{list(image_shape)} is configured. Correct data.image_shape or convert the images."
            )
        return self

    def save(self, path: str | Path) -> None:
        """Writes uint8 `images`, int64 `labels` and int64 `ids` to an npz file. The same set gives the same bytes.

        Args:
            path: of the file; its folder is created where missing.
        """
        with atomic(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, images=self.images, labels=self.labels, ids=self.ids)

    @classmethod
    def load(cls, path: str | Path) -> ImageSet:
        """The set in an npz file, named as the file without its suffix.

        The file holds uint8 `images` [N, H, W, C], or JPEG streams one after another in uint8 `jpeg`, stream i at
        jpeg[offsets[i]:offsets[i + 1]] (decoded to RGB). It may hold int64 `labels` [N] (without them: all -1) and
        int64 `ids` [N] (without them: 0 to N - 1). Other arrays are ignored.

        Args:
            path: of the npz file.

        Returns:
            The set.

        Raises:
            InputError: if the file is missing or unreadable, and if its arrays do not fit together.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: no such file. Check the path, or create the image set first.")
        arrays = read_arrays(path, _KEYS)
        try:
            images = arrays["images"] if "images" in arrays else _decode(arrays)
            labels = arrays.get("labels", np.full(len(images), -1, np.int64))
            ids = arrays.get("ids", np.arange(len(images), dtype=np.int64))
            return cls(path.stem, images, labels, ids)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


_KEYS = ("images", "jpeg", "offsets", "labels", "ids")
_REMEDIES = {
    "images": "Store [N, H, W, C] bytes: numpy.rint(255 * images).astype(numpy.uint8) for floats in [0, 1].",
    "labels": "Store [N] class numbers as numpy.int64.",
    "ids": "Store [N] sample numbers as numpy.int64.",
}


def check_size(count: int) -> None:
    """Checks that images of `count` bytes fit the memory.

    Args:
        count: bytes of all images together.

    Raises:
        InputError: if they take more than MAX_BYTES bytes.
    """
    if count > MAX_BYTES:
        raise InputError(f"the images would take {count} bytes, over {MAX_BYTES}: take fewer of them, or smaller ones.")


def _decode(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """uint8 [N, H, W, 3] from the `jpeg` and `offsets` of an image file."""
    if not {"jpeg", "offsets"} <= arrays.keys():
        raise InputError(
            f"it holds {sorted(arrays) or 'none'} of the known arrays, but no images. "
            "Store uint8 `images` [N, H, W, C], or `jpeg` and `offsets`."
        )
    jpeg, offsets = arrays["jpeg"], arrays["offsets"]
    if jpeg.dtype != np.uint8 or jpeg.ndim != 1:
        raise InputError(f"`jpeg` is {jpeg.dtype} {list(jpeg.shape)}: store the streams as one uint8 array [bytes].")
    if (
        offsets.dtype != np.int64
        or offsets.ndim != 1
        or len(offsets) < 1
        or offsets[0] != 0
        or offsets[-1] != len(jpeg)
        or (np.diff(offsets) <= 0).any()
    ):
        raise InputError(
            f"`offsets` ({offsets.dtype} {list(offsets.shape)}) do not divide the {len(jpeg)} bytes of `jpeg`: "
            "store N + 1 rising int64 numbers, from 0 to the number of bytes."
        )
    images = []
    for index, stream in enumerate(np.split(jpeg, offsets[1:-1]) if len(offsets) > 1 else []):
        try:
            images.append(decoded(io.BytesIO(stream.tobytes()), ("JPEG",)))
        except InputError as error:
            raise InputError(f"JPEG stream {index} can't be decoded: {error}") from error
        if images[index].shape != images[0].shape:
            raise InputError(
                f"JPEG stream {index} is {list(images[index].shape)}, but stream 0 is {list(images[0].shape)}: "
                "resize all images to one height and width."
            )
        check_size(images[0].nbytes * (len(offsets) - 1))
    return np.stack(images) if images else np.empty((0, 0, 0, 3), np.uint8)
