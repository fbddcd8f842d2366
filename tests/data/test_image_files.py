"""Every kind of image file gives what a viewer shows, or is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

import oodcert
from jpeg_streams import jpeg_pack
from oodcert.data.image_files import read_image
from oodcert.data.imageset import ImageSet
from oodcert.errors import InputError
from refusals import assert_refused

RNG = np.random.default_rng(0)
SHADES = np.repeat(np.linspace(0, 255, 24).astype(np.uint8).reshape(4, 6, 1), 3, axis=2)  # 4 high, 6 wide
ORIENTATION = 0x0112
TURNED = {  # EXIF orientation -> what a viewer makes of the stored pixels
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored),
}


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(content, **options):
    return read_image("some file", None, io.BytesIO(content), **options)


def refused(content, *words, **options):
    assert_refused(lambda: read(content, **options), "some file", *words)


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_images_are_turned_as_their_orientation_says(kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    shown = read(encoded(Image.fromarray(SHADES), kind, exif=exif, **options))
    assert shown.shape == TURNED[orientation](SHADES).shape
    assert np.abs(shown.astype(int) - TURNED[orientation](SHADES)).max() <= 2


def test_jpeg_streams_of_an_npz_file_are_turned_too(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    stream = np.frombuffer(encoded(Image.fromarray(SHADES), "JPEG", exif=exif), np.uint8)
    np.savez(tmp_path / "some.npz", jpeg=stream, offsets=np.array([0, len(stream)]))
    assert ImageSet.load(tmp_path / "some.npz").images.shape == (1, 6, 4, 3)


def transparent(mode):
    """An image of that mode: red or grey on the left, and on the right nothing."""
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[:, 0] = 90, 90, 90, 255
    image = Image.fromarray(rgba)
    if mode == "P":
        return image.convert("RGB").quantize(2), {"transparency": 0}
    if mode in ("L", "RGB"):
        return image.convert(mode), {"transparency": 0 if mode == "L" else (0, 0, 0)}
    return image.convert(mode), {}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
def test_what_is_transparent_is_white(mode):
    image, options = transparent(mode)
    pixels = read(encoded(image, "PNG", **options))
    if mode == "P":  # of whose two colours either may be the first
        assert sorted(np.unique(pixels)) in ([0, 255], [90, 255])
    else:
        assert (pixels[:, 0] == 90).all() and (pixels[:, 1] == 255).all()


def test_half_transparent_is_half_white_and_opaque_stays_as_it_is():
    half, opaque = np.full((1, 1, 4), 100, np.uint8), np.full((1, 1, 4), 255, np.uint8)
    half[..., 3], opaque[..., :3] = 128, (1, 2, 3)
    assert abs(int(read(encoded(Image.fromarray(half), "WEBP", lossless=True)).max()) - 177) <= 1
    assert read(encoded(Image.fromarray(opaque), "TIFF")).tolist() == [[[1, 2, 3]]]


def test_a_palette_of_a_gif_with_a_transparent_colour():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert read(encoded(image, "GIF", transparency=1)).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_one_bit_and_grey_become_rgb():
    bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    for kind in ("PNG", "TIFF", "PPM", "BMP"):
        assert read(encoded(bits, kind)).tolist() == [[[0] * 3, [255] * 3]]
    assert read(encoded(Image.fromarray(SHADES[..., 0]), "PNG")).tolist() == SHADES.tolist()


def png(bits, colour, pixel):
    """A PNG of one pixel, given as bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" + pixel))
        + chunk(b"IEND", b"")
    )


def tiff(bits, samples, data, sample_format=1):
    """An uncompressed TIFF of one pixel."""
    values = {256: 1, 257: 1, 258: bits, 259: 1, 262: 2 if samples == 3 else 1, 277: samples, 278: 1, 279: len(data)}
    values[339] = sample_format
    entries, after = [], 8 + 2 + 12 * (len(values) + 1) + 4
    arrays = {tag: struct.pack("<3H", *[values[tag]] * 3) for tag in (258, 339)} if samples == 3 else {}
    place = {tag: after + 6 * index for index, tag in enumerate(arrays)}
    pixels = after + 6 * len(arrays)
    for tag, value in sorted({**values, 273: pixels}.items()):
        count, value = (3, place[tag]) if tag in arrays else (1, value)
        entries.append(struct.pack("<HHI", tag, 3, count) + struct.pack("<I", value))
    body = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8) + body + b"".join(arrays.values()) + data


DEEP = {
    "16-bit grey PNG": png(16, 0, b"\1\xff"),
    "16-bit RGB PNG": png(16, 2, b"\1\xff" * 3),
    "16-bit grey PNG with alpha": png(16, 4, b"\1\xff" * 2),
    "16-bit RGBA PNG": png(16, 6, b"\1\xff" * 4),
    "16-bit grey TIFF": tiff(16, 1, b"\1\xff"),
    "16-bit RGB TIFF": tiff(16, 3, b"\1\xff" * 3),
    "32-bit TIFF": tiff(32, 1, b"\1\0\0\0"),
    "float TIFF": tiff(32, 1, struct.pack("<f", 0.5), sample_format=3),
    "signed TIFF": tiff(8, 1, b"\xff", sample_format=2),
    "16-bit PPM": b"P6 1 1 65535\n" + b"\1\xff" * 3,
    "10-bit PPM": b"P6 1 1 1023\n" + b"\1\xff" * 3,
    "16-bit PPM in words": b"P3 1 1 65535\n511 511 511\n",
    "16-bit PGM": b"P5 1 1 65535\n" + b"\1\xff",
}


@pytest.mark.parametrize("kind", DEEP)
def test_more_than_8_bits_are_refused(kind):
    refused(DEEP[kind], "8 bits")


def test_the_hand_made_files_of_8_bits_are_read():
    assert read(png(8, 2, b"\1\2\3")).tolist() == read(tiff(8, 3, b"\1\2\3")).tolist() == [[[1, 2, 3]]]
    assert read(b"P6 1 1 255\n\1\2\3").tolist() == [[[1, 2, 3]]]
    assert read(tiff(8, 1, b"\7")).tolist() == read(png(8, 0, b"\7")).tolist() == [[[7, 7, 7]]]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_refused(kind):
    refused(encoded(Image.new("CMYK", (4, 4), (10, 20, 30, 40)), kind), "CMYK", "Convert the file to RGB")


def test_lab_is_refused():
    refused(encoded(Image.new("LAB", (4, 4), (10, 20, 30)), "TIFF"), "LAB", "RGB")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_animations_and_pages_are_refused(kind):
    first, *others = (Image.fromarray(RNG.integers(0, 256, (4, 4, 3), np.uint8)) for _ in range(3))
    refused(encoded(first, kind, save_all=True, append_images=others), "3 frames", "Save the one")
    assert read(encoded(first, kind, save_all=True)).shape == (4, 4, 3)


def test_a_photo_with_a_preview_is_its_photo():
    photo, preview = Image.new("RGB", (8, 8), (200, 0, 0)), Image.new("RGB", (4, 4))
    pixels = read(encoded(photo, "MPO", save_all=True, append_images=[preview]))
    assert pixels.shape == (8, 8, 3) and pixels[..., 0].min() > 190


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP"])
def test_a_file_that_is_cut_off_is_refused_or_whole(kind, lenient, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)  # as some programs set it
    content = encoded(Image.fromarray(RNG.integers(0, 256, (12, 12, 3), np.uint8)), kind)
    whole, refusals = read(content), 0
    for length in range(1, len(content), 7):
        try:
            assert np.array_equal(read(content[:length]), whole)
        except InputError:
            refusals += 1
    assert refusals > 0.8 * len(content) // 7
    assert ImageFile.LOAD_TRUNCATED_IMAGES is lenient


def test_grey_is_taken_where_it_is_asked_for_and_colour_is_not():
    assert read(encoded(Image.fromarray(SHADES), "PNG"), channels=1).tolist() == SHADES[..., :1].tolist()
    assert read(encoded(Image.new("1", (2, 2)), "PNG"), channels=1).shape == (2, 2, 1)
    refused(encoded(Image.new("RGB", (2, 3), (1, 2, 3)), "PNG"), "in colour", "[3, 3, 2]", channels=1)
    refused(encoded(Image.new("L", (2, 2)), "PNG"), "4", "npz", channels=4)


def test_images_are_scaled_to_an_oblong_and_cut(tmp_path):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 6:18] = 255
    pixels = read_image("wide", (4, 6), io.BytesIO(encoded(Image.fromarray(wide), "PNG")))
    assert pixels.shape == (4, 6, 3) and pixels.min() > 200


def test_a_stream_that_is_no_rgb_is_named(tmp_path):
    pack = jpeg_pack([SHADES])
    stream = np.frombuffer(encoded(Image.new("CMYK", (6, 4)), "JPEG"), np.uint8)
    jpeg = np.concatenate([pack["jpeg"], stream])
    np.savez(tmp_path / "some.npz", jpeg=jpeg, offsets=np.array([0, len(pack["jpeg"]), len(jpeg)]))
    assert_refused(lambda: oodcert.load_images(tmp_path / "some.npz"), "some.npz", "stream 1", "CMYK")
