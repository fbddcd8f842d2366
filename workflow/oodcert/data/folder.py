"""Image sets as people keep them: a folder of image files, or one npz file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from oodcert.data.image_files import Size, read_image, resize
from oodcert.data.imageset import ImageSet, check_size
from oodcert.data.listing import image_files
from oodcert.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def load_images(path: str | Path, size: int | None = None) -> Tensor:
    """The images of a folder or an npz file.

    Of a folder every bmp, gif, jpeg, png, ppm, tiff and webp file is read and converted to RGB, in the order of the
    paths within the folder. Images are turned as their EXIF orientation says, and transparent pixels lie on white.
    Subfolders are included and symbolic links followed. Hidden files and folders are ignored, and so are files that
    are no images. docs/inputs.md says what happens to every kind of file.

    Args:
        path: a folder, or an npz file (see `ImageSet.load`).
        size: pixels. Every image's shorter side is resized to it (bilinear, antialiased), and its centre of
            size x size pixels is cut out. None: all images must have one size already.

    Returns:
        float32 tensor [N, C, H, W] in [0, 1].

    Raises:
        InputError: naming the file, if the path is missing, if the folder has no images or holds a broken link, and if
            an image is unreadable or has several frames, more than 8 bits a channel, other colours than grey, RGB or a
            palette, too many pixels for Pillow (PIL.Image.MAX_IMAGE_PIXELS) or another size than the first one.
    """
    import torch

    return torch.from_numpy(load_image_set(path, size).floats())


def load_image_set(
    path: str | Path,
    size: int | Size | None = None,
    count: int | None = None,
    *,
    channels: int = 3,
    keep_ids: bool = True,
    num_classes: int | None = None,
    image_shape: Sequence[int] | None = None,
) -> ImageSet:
    """The images of a folder or an npz file as an ImageSet, named as the folder or the file without its suffix.

    Args:
        path: a folder (see `load_images`), or an npz file (see `ImageSet.load`).
        size: as for `load_images`, or (height, width), to which every image is scaled and cut.
        count: at most this many images, evenly spaced over the set; None: all. No other image of a folder is read.
        channels: of the images of a folder. 3: RGB. 1: grey, and an image in colour is refused.
        keep_ids: whether the ids of an npz file are kept. False: the ids are positions in the file. Those of a folder
            always are positions among its images.
        num_classes: labels must be below it.
        image_shape: (C, H, W) that the images must have.

    Returns:
        The ImageSet. The labels of a folder are -1.

    Raises:
        InputError: as `load_images`, and on labels or images that do not fit num_classes or image_shape.
    """
    path = Path(path)
    size = (size, size) if isinstance(size, int) else size
    if size is not None and min(size) < 1:
        raise InputError(f"size = {size[0]}: images need at least one pixel a side.")
    if path.is_dir():
        image_set = _read_folder(path, size, count, channels)
    elif path.suffix == ".npz":
        whole = ImageSet.load(path)
        positions = _evenly_spaced(len(whole), count)
        image_set = _resized(whole if len(positions) == len(whole) else whole.chosen(positions), size)
        image_set = image_set if keep_ids else replace(image_set, ids=positions)
    else:
        raise InputError(f"{path}: neither a folder of images nor an npz file. Check the path.")
    try:
        return image_set.check(num_classes, image_shape)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _evenly_spaced(n: int, count: int | None) -> NDArray[np.int64]:
    """At most `count` of the positions 0 to n - 1, evenly spaced."""
    kept = min(n, count or n)
    return np.array([index * n // kept for index in range(kept)], np.int64)


def _read_folder(folder: Path, size: Size | None, count: int | None, channels: int) -> ImageSet:
    files = image_files(folder)
    positions = _evenly_spaced(len(files), count)
    images: list[NDArray[np.uint8]] = []
    for position in positions:
        images.append(read_image(files[position], size, channels=channels))
        check_size(images[0].nbytes * len(positions))
        if images[-1].shape != images[0].shape:
            (height, width), (first_height, first_width) = images[-1].shape[:2], images[0].shape[:2]
            raise InputError(
                f"{files[position]} is {width} x {height} pixels, {files[positions[0]].name} is "
                f"{first_width} x {first_height}: pass size (on the command line --size) to resize and crop all images."
            )
    return ImageSet(folder.resolve().name, np.stack(images), np.full(len(images), -1, np.int64), positions)


def _resized(image_set: ImageSet, size: Size | None) -> ImageSet:
    if size is None or image_set.images.shape[1:3] == size:
        return image_set
    check_size(size[0] * size[1] * image_set.images.shape[3] * len(image_set))
    return replace(image_set, images=np.stack([resize(image, size) for image in image_set.images]))
