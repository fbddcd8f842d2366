"""One image file, as a viewer shows it: uint8 pixels, or a refusal."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps

from oodcert.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
PLAIN = ("1", "L", "P", "RGB")  # Pillow's modes of 8 bits or fewer that have one meaning as RGB
TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
DEEP = ("I", "F")  # first letters of Pillow's modes with more than 8 bits a channel
BYTE = 255  # the largest value of 8 bits
BACKGROUND = (255, 255, 255, 255)  # white, behind what is transparent
BITS_PER_SAMPLE, SAMPLE_FORMAT, SIGNED = 258, 339, 2  # of TIFF: two tags, and a value of the second

Size = tuple[int, int]  # height, width


def read_image(
    path: str | Path, size: Size | None, file: BinaryIO | None = None, channels: int = 3
) -> NDArray[np.uint8]:
    """One image file, turned as its EXIF orientation says, transparent pixels on white.

    Args:
        path: the file, or what error messages call it.
        size: (height, width) that the image is resized to (see `resize`); None: it stays as it is.
        file: the open binary file; None: `path` is opened.
        channels: 3: RGB, a grey image has three equal channels. 1: grey, an image in colour is refused.

    Returns:
        uint8 [H, W, channels].

    Raises:
        InputError: if it is unreadable or cut off, has several frames, more than 8 bits a channel, other colours than
            grey, RGB or a palette, or colour where grey is asked for.
    """
    try:
        pixels = decoded(file or path)
        if channels != 3:
            pixels = _grey(pixels, channels, size)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return resize(pixels, size)


def decoded(file: str | Path | BinaryIO, formats: tuple[str, ...] = FORMATS) -> NDArray[np.uint8]:
    """The pixels of an image file, as `read_image` gives them in RGB.

    Args:
        file: the path, or the open binary file.
        formats: Pillow's names of the formats that are read.

    Returns:
        uint8 [H, W, 3].

    Raises:
        InputError: as `read_image`, without the name of the file.
    """
    try:
        with _strict_pillow(), Image.open(file, formats=formats) as image:
            fault = _fault(image)
            pixels = np.empty(0, np.uint8) if fault else np.asarray(_upright(image))
    except Exception as error:  # Pillow's decoders raise many kinds
        raise InputError(f"can't be read as an image ({error}). Replace the file or remove it.") from error
    if fault:
        raise InputError(fault)
    return pixels


@contextmanager
def _strict_pillow() -> Iterator[None]:
    """Pillow refuses images of too many pixels, and cut off ones even where the program around us allows them."""
    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def _fault(image: Image.Image) -> str | None:
    """Why an open image has no single meaning as 8-bit RGB, and the remedy; None if it has."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a photo with previews, of which viewers show the first
        return f"{frames} frames or pages. Save the one that is meant as a file of its own."
    if image.mode.startswith(DEEP) or _stored_bits(image) > 8:
        return f"more than 8 bits a channel (Pillow's mode {image.mode}). Convert the file to 8 bits."
    if image.mode not in (*PLAIN, *TRANSPARENT):
        return f"its colours are {image.mode}, neither grey nor RGB nor a palette. Convert the file to RGB."
    return None


def _stored_bits(image: Image.Image) -> int:
    """Bits a channel in the file, where Pillow would cut them to 8 without a word; 8 where it has no more."""
    if image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        return int(np.max(tags.get(BITS_PER_SAMPLE, 1))) + int(SIGNED in np.atleast_1d(tags.get(SAMPLE_FORMAT, 1)))
    for tile in getattr(image, "tile", ()):
        arguments = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if image.format == "PNG" and "16" in str(arguments[0]):
            return 16
        if image.format == "PPM" and isinstance(arguments[-1], int) and arguments[-1] > BYTE:  # the largest value
            return 16
    return 8


def _upright(image: Image.Image) -> Image.Image:
    """The image in RGB, turned as its EXIF orientation says, on white where it is transparent."""
    upright: Any = ImageOps.exif_transpose(image)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    shown = upright.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", shown.size, BACKGROUND), shown).convert("RGB")


def _grey(pixels: NDArray[np.uint8], channels: int, size: Size | None) -> NDArray[np.uint8]:
    if channels != 1:
        raise InputError(f"an image file has 1 or 3 channels, not {channels}. Store the images in an npz file.")
    if (pixels != pixels[..., :1]).any():
        raise InputError(
            f"it is in colour, {[3, *(size or pixels.shape[:2])]} (channels, height, width), but grey images are asked "
            "for. Convert the file to grey, or correct data.image_shape."
        )
    return pixels[..., :1]


def resize(pixels: NDArray[np.uint8], size: Size | None) -> NDArray[np.uint8]:
    """Scales an image, channel by channel, until it covers the size, and cuts out the centre.

    The scaling is bilinear and antialiased.

    Args:
        pixels: uint8 [H, W, C].
        size: (height, width) of the result; None: the image stays as it is.

    Returns:
        uint8 [height, width, C].
    """
    if size is None or pixels.shape[:2] == size:
        return pixels
    height, width = size
    channels = [Image.fromarray(pixels[..., channel]) for channel in range(pixels.shape[-1])]
    fitted = [ImageOps.fit(channel, (width, height), Image.Resampling.BILINEAR) for channel in channels]
    return np.dstack([np.asarray(channel) for channel in fitted])
