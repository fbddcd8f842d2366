"""Image sets as people keep them: a folder of image files, or one npz file."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from oodcert.data.imageset import ImageSet, check_size
from oodcert.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
DEEP = ("I", "F")  # first letters of Pillow's modes with more than 8 bits, which its conversion to RGB would clip


def load_images(path: str | Path, size: int | None = None) -> Tensor:
    """The images of a folder or an npz file.

    Of a folder every bmp, gif (its first frame), jpeg, png, ppm, tiff and webp file is read and converted to RGB, in
    the order of the paths within the folder. Subfolders are included. Hidden and other files are ignored.

    Args:
        path: a folder, or an npz file (see `ImageSet.load`).
        size: pixels. Every image's shorter side is resized to it (bilinear, antialiased), and its centre of
            size x size pixels is cut out. None: all images must have one size already.

    Returns:
        float32 tensor [N, C, H, W] in [0, 1].

    Raises:
        InputError: naming the file, if the path is missing, if the folder has no images, and if an image is unreadable
            or has more than 8 bits a channel, too many pixels for Pillow (PIL.Image.MAX_IMAGE_PIXELS) or another size
            than the first one.
    """
    import torch

    return torch.from_numpy(load_image_set(path, size).floats())


def load_image_set(
    path: str | Path,
    size: int | None = None,
    count: int | None = None,
    *,
    keep_ids: bool = True,
    num_classes: int | None = None,
    image_shape: Sequence[int] | None = None,
) -> ImageSet:
    """The images of a folder or an npz file as an ImageSet, named as the folder or the file without its suffix.

    Args:
        path: a folder (see `load_images`), or an npz file (see `ImageSet.load`).
        size: as for `load_images`.
        count: at most this many images, evenly spaced over the set; None: all. No other image of a folder is read.
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
    if size is not None and size < 1:
        raise InputError(f"size = {size}: images need at least one pixel a side.")
    if path.is_dir():
        image_set = _read_folder(path, size, count)
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


def _read_folder(folder: Path, size: int | None, count: int | None) -> ImageSet:
    files = image_files(folder)
    positions = _evenly_spaced(len(files), count)
    images: list[NDArray[np.uint8]] = []
    for position in positions:
        images.append(read_image(files[position], size))
        check_size(images[0].nbytes * len(positions))
        if images[-1].shape != images[0].shape:
            (height, width), (first_height, first_width) = images[-1].shape[:2], images[0].shape[:2]
            raise InputError(
                f"{files[position]} is {width} x {height} pixels, {files[positions[0]].name} is "
                f"{first_width} x {first_height}: pass size (on the command line --size) to resize and crop all images."
            )
    return ImageSet(folder.resolve().name, np.stack(images), np.full(len(images), -1, np.int64), positions)


def _resized(image_set: ImageSet, size: int | None) -> ImageSet:
    if size is None or image_set.images.shape[1:3] == (size, size):
        return image_set
    check_size(size * size * image_set.images.shape[3] * len(image_set))
    return replace(image_set, images=np.stack([resize(image, size) for image in image_set.images]))


def image_files(folder: Path) -> list[Path]:
    """Paths of the images in a folder and its subfolders, sorted.

    Args:
        folder: to search.

    Returns:
        The paths, at least one.

    Raises:
        InputError: if there are none.
    """
    files = [path for path in folder.rglob("*") if is_image(path) and path.is_file()]
    if not files:
        raise InputError(f"{folder}: no images in this folder ({', '.join(sorted(_suffixes()))}). Check the path.")
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def is_image(path: PurePath) -> bool:
    """Whether a path's name is that of an image file, and not hidden."""
    return path.suffix.lower() in _suffixes() and not path.name.startswith(".")


@cache
def _suffixes() -> set[str]:
    Image.init()
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}


def read_image(path: str | Path, size: int | None, file: BinaryIO | None = None) -> NDArray[np.uint8]:
    """One image file.

    Args:
        path: the file, or what error messages call it.
        size: as for `load_images`.
        file: the open binary file; None: `path` is opened.

    Returns:
        uint8 [H, W, 3].

    Raises:
        InputError: if it is unreadable or has more than 8 bits a channel.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file or path, formats=FORMATS) as image:
                mode, pixels = image.mode, np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise many kinds
        raise InputError(f"{path}: can't be read as an image ({error}). Replace the file or remove it.") from error
    if mode.startswith(DEEP):
        raise InputError(f"{path}: more than 8 bits a channel (Pillow's mode {mode}). Convert the file to 8 bits.")
    return resize(pixels, size)


def resize(pixels: NDArray[np.uint8], size: int | None) -> NDArray[np.uint8]:
    """Resizes an image, channel by channel: the shorter side to size, then the centre is cut out.

    Args:
        pixels: uint8 [H, W, C].
        size: of the result in pixels; None: the image stays as it is.

    Returns:
        uint8 [size, size, C].
    """
    if size is None or pixels.shape[:2] == (size, size):
        return pixels
    channels = [Image.fromarray(pixels[..., channel]) for channel in range(pixels.shape[-1])]
    fitted = [ImageOps.fit(channel, (size, size), Image.Resampling.BILINEAR) for channel in channels]
    return np.dstack([np.asarray(channel) for channel in fitted])
