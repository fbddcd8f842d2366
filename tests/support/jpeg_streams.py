"""Images as JPEG streams, as an image set in an npz file may hold them."""

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image


def jpeg_pack(images: Iterable[np.ndarray]) -> dict[str, np.ndarray | None]:
    """The arrays of an npz file that holds the images as JPEG streams, one behind the other, and no array "images"."""
    streams = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG")
        streams.append(stream.getvalue())
    offsets = np.cumsum([0, *map(len, streams)])
    return {"images": None, "jpeg": np.frombuffer(b"".join(streams), np.uint8), "offsets": offsets}
