import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import oodcert
from oodcert.data.folder import load_image_set
from oodcert.data.imageset import ImageSet
from refusals import assert_refused

RNG = np.random.default_rng(0)


def pixels(height=4, width=5, channels=3):
    return RNG.integers(0, 256, (height, width, channels), np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def test_a_folder_is_read_whole_sorted_by_path_and_in_0_to_1(tmp_path):
    images = {name: pixels() for name in ("b.png", "a/z.PNG", "a.bmp", "c/d/e.ppm", "f.tif")}
    for name, array in images.items():
        save(tmp_path / name, array)
    (tmp_path / "labels.txt").write_text("not an image")
    (tmp_path / "._b.png").write_bytes(b"hidden")
    (tmp_path / "folder.png").mkdir()
    loaded = oodcert.load_images(tmp_path)
    assert loaded.dtype == torch.float32 and loaded.shape == (5, 3, 4, 5) and loaded.is_contiguous()
    for image, name in zip(loaded, ("a.bmp", "a/z.PNG", "b.png", "c/d/e.ppm", "f.tif"), strict=True):
        assert np.array_equal((255 * image.permute(1, 2, 0)).round().numpy(), images[name])


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "webp", "gif"])
def test_other_formats_are_read(tmp_path, suffix):
    save(tmp_path / f"grey.{suffix}", np.full((8, 8, 3), 128, np.uint8))
    assert (oodcert.load_images(tmp_path) * 255 - 128).abs().max() <= 2


def test_grey_palette_and_transparent_images_become_rgb(tmp_path):
    save(tmp_path / "a.png", pixels()[..., 0])
    save(tmp_path / "b.png", pixels(channels=4))
    Image.fromarray(pixels()).quantize(4).save(tmp_path / "c.png")
    assert oodcert.load_images(tmp_path).shape == (3, 3, 4, 5)


def test_an_npz_file_gives_the_image_sets_own_floats(tmp_path):
    images = RNG.integers(0, 256, (6, 4, 5, 1), np.uint8)
    np.savez(tmp_path / "some.npz", images=images)
    expected = ImageSet.load(tmp_path / "some.npz").floats()
    assert np.array_equal(oodcert.load_images(tmp_path / "some.npz").numpy(), expected)


def test_size_keeps_the_centre_and_the_aspect_ratio(tmp_path):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255
    save(tmp_path / "folder" / "wide.png", wide)
    save(tmp_path / "folder" / "tall.png", wide.transpose(1, 0, 2))
    np.savez(tmp_path / "some.npz", images=np.stack([wide, wide]))
    for path in (tmp_path / "folder", tmp_path / "some.npz"):
        loaded = oodcert.load_images(path, size=4)
        assert loaded.shape == (2, 3, 4, 4) and loaded.min() > 0.85


def test_an_image_of_that_size_is_left_as_it_is(tmp_path):
    array = pixels(4, 4)
    save(tmp_path / "a.png", array)
    assert torch.equal(oodcert.load_images(tmp_path, size=4), oodcert.load_images(tmp_path))


def test_a_selection_is_evenly_spaced_and_reads_nothing_else(tmp_path):
    for index in range(10):
        save(tmp_path / f"{index}.png", np.full((2, 2, 3), index, np.uint8))
    (tmp_path / "1.png").write_bytes(b"broken")
    image_set = load_image_set(tmp_path, count=4)
    assert image_set.name == tmp_path.name and set(image_set.labels) == {-1}
    assert image_set.ids.tolist() == image_set.images[:, 0, 0, 0].tolist() == [0, 2, 5, 7]
    (tmp_path / "1.png").unlink()
    assert load_image_set(tmp_path, count=99).ids.tolist() == list(range(9))


def test_a_selection_of_an_npz_file_keeps_its_ids_or_counts_positions(tmp_path):
    images, ids = RNG.integers(0, 256, (7, 4, 5, 3), np.uint8), np.arange(70, 77)
    np.savez(tmp_path / "some.npz", images=images, ids=ids, labels=np.arange(7))
    kept = load_image_set(tmp_path / "some.npz", count=3)
    counted = load_image_set(tmp_path / "some.npz", size=2, count=3, keep_ids=False)
    assert kept.name == "some" and kept.ids.tolist() == [70, 72, 74] and kept.labels.tolist() == [0, 2, 4]
    assert np.array_equal(kept.images, images[[0, 2, 4]])
    assert counted.ids.tolist() == [0, 2, 4] and counted.shape == (3, 2, 2)


def test_every_byte_has_the_same_float_in_every_library():
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    floats = torch.from_numpy(ImageSet("bytes", every, np.array([-1]), np.array([0])).floats())
    assert torch.equal(floats, torch.from_numpy(every).permute(0, 3, 1, 2) / 255)


def test_different_sizes_are_refused_with_the_remedy(tmp_path):
    save(tmp_path / "a.png", pixels(4, 5))
    save(tmp_path / "b.png", pixels(6, 7))
    assert_refused(lambda: oodcert.load_images(tmp_path), "b.png is 7 x 6", "a.png is 5 x 4", "size")
    assert oodcert.load_images(tmp_path, size=3).shape == (2, 3, 3, 3)


def test_missing_and_empty_paths_are_refused(tmp_path):
    assert_refused(lambda: oodcert.load_images(tmp_path / "nowhere"), "nowhere", "Check the path")
    assert_refused(lambda: oodcert.load_images(tmp_path / "nowhere.npz"), "nowhere.npz", "no such file")
    (tmp_path / "readme.md").write_text("nothing here")
    assert_refused(lambda: oodcert.load_images(tmp_path), str(tmp_path), "no images")
    assert_refused(lambda: oodcert.load_images(tmp_path / "readme.md"), "readme.md", "neither")
    assert_refused(lambda: oodcert.load_images(tmp_path, size=0), "size = 0")


def truncated(path):
    save(path, pixels(64, 64))
    path.write_bytes(path.read_bytes()[:-4000])


def bomb(path):
    Image.new("1", (10_000, 10_000)).save(path)  # 12 KB on disk; Pillow only warns at this size


def disguised(path):
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


@pytest.mark.parametrize("spoil", [truncated, bomb, disguised, lambda path: path.write_bytes(b"")])
def test_an_image_that_cannot_be_decoded_is_named(tmp_path, spoil):
    spoil(tmp_path / "bad.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_refused(lambda: oodcert.load_images(tmp_path), "bad.png", "can't be read")


@pytest.mark.parametrize(("dtype", "suffix"), [(np.uint16, "png"), (np.float32, "tif")])
def test_deep_images_are_refused_rather_than_clipped(tmp_path, dtype, suffix):
    save(tmp_path / f"deep.{suffix}", np.ones((4, 4), dtype))
    assert_refused(lambda: oodcert.load_images(tmp_path), f"deep.{suffix}", "8 bits")
