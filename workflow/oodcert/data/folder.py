"""Image sets as people keep them: a folder of image files, or one npz file."""

import warnings
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from oodcert.data.imageset import ImageSet, check_size
from oodcert.errors import InputError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
DEEP = ("I", "F")  # first letters of Pillow's modes with more than 8 bits, which its conversion to RGB would clip


def load_images(path, size=None):
    """An image set as a float32 tensor [N, C, H, W] in [0, 1].

    path: an npz file (see `ImageSet.load`), or a folder. Of a folder every bmp, gif (its first frame), jpeg, png, ppm,
    tiff and webp file is read, subfolders included, hidden files not, in the order of the paths within it, and
    converted to RGB; other files are ignored.
    size: pixels. Every image's shorter side is resized to it (bilinear, antialiased) and its centre is cut out, size x
    size; without it all images must have one size.

    Raises InputError, naming the file, on a missing path, on a folder without images, and on an image that can't be
    decoded, has more than 8 bits a channel, too many pixels for Pillow (PIL.Image.MAX_IMAGE_PIXELS) or another size.
    """
    return select_images(path, size)[1]


def select_images(path, size=None, count=None):
    """At most `count` images, evenly spaced over the set of `load_images`: their positions in it [N], and the tensor.

    No other image of a folder is read. count: a positive number, or None for all.
    """
    import torch

    positions, pixels = select_pixels(path, size, count)
    return positions, torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous() / 255


def select_pixels(path, size=None, count=None):
    """The same, as uint8 [N, H, W, C]."""
    path = Path(path)
    if size is not None and size < 1:
        raise InputError(f"size = {size}: images need at least one pixel a side.")
    if path.is_dir():
        members, read = image_files(path), read_image
    elif path.suffix == ".npz":
        members, read = ImageSet.load(path).images, resize
    else:
        raise InputError(f"{path}: neither a folder of images nor an npz file. Check the path.")
    kept = min(len(members), count or len(members))
    positions = [index * len(members) // kept for index in range(kept)]
    images = []
    for position in positions:
        images.append(read(members[position], size))
        check_size(images[0].nbytes * kept)
        if images[-1].shape != images[0].shape:
            (height, width), (first_height, first_width) = images[-1].shape[:2], images[0].shape[:2]
            raise InputError(
                f"{members[position]} is {width} x {height} pixels, {members[positions[0]].name} is "
                f"{first_width} x {first_height}: pass size (on the command line --size) to resize and crop all images."
            )
    return positions, np.stack(images)


def image_files(folder):
    """Paths of the images in a folder and its subfolders, sorted. Raises InputError where there are none."""
    files = [path for path in folder.rglob("*") if is_image(path) and path.is_file()]
    if not files:
        raise InputError(f"{folder}: no images in this folder ({', '.join(sorted(_suffixes()))}). Check the path.")
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def is_image(path):
    """Whether a path's name is that of an image file, and not hidden."""
    return path.suffix.lower() in _suffixes() and not path.name.startswith(".")


@cache
def _suffixes():
    Image.init()
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}


def read_image(path, size, file=None):
    """uint8 [H, W, 3] of an image file, or of an open binary one that errors call `path`; size as for `load_images`."""
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


def resize(pixels, size):
    """uint8 [H, W, C] to [size, size, C], channel by channel: shorter side to size, centre cut out."""
    if size is None or pixels.shape[:2] == (size, size):
        return pixels
    channels = [Image.fromarray(pixels[..., channel]) for channel in range(pixels.shape[-1])]
    return np.dstack([ImageOps.fit(channel, (size, size), Image.Resampling.BILINEAR) for channel in channels])
