import hashlib
import io
import re
import time
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jpeg_streams import jpeg_pack
from oodcert.data.folder import load_image_set
from oodcert.data.imageset import ImageSet
from oodcert.data.noise_sets import noise_set
from oodcert.errors import InputError
from refusals import assert_refused

N, H, W, C = 6, 5, 4, 3


def arrays():
    rng = np.random.default_rng(0)
    return {
        "images": rng.integers(0, 256, (N, H, W, C), np.uint8),
        "labels": np.array([0, 1, 2, 3, -1, 0]),
        "ids": np.array([10, 3, 7, 0, 99, 50]),
    }


def image_set():
    return ImageSet("some", **arrays())


def write(tmp_path, **changes):
    """An npz file of the arrays with changes; None drops one."""
    path = tmp_path / "some.npz"
    np.savez(path, **{key: array for key, array in {**arrays(), **changes}.items() if array is not None})
    return path


def test_floats_are_channels_first_in_the_unit_interval():
    floats = image_set().floats()
    assert floats.shape == (N, C, H, W) and floats.dtype == np.float32 and floats.flags.c_contiguous
    assert floats.min() >= 0 and floats.max() <= 1
    np.testing.assert_array_equal(np.rint(floats * 255), arrays()["images"].transpose(0, 3, 1, 2))
    assert image_set().shape == (C, H, W) and len(image_set()) == N


def test_white_is_exactly_one():
    white = ImageSet("white", np.full((1, 2, 2, 1), 255, np.uint8), np.array([-1]), np.array([0]))
    assert (white.floats() == 1).all()


@given(st.integers(1, N))
def test_first(n):
    first = image_set().first(n)
    for key, array in arrays().items():
        np.testing.assert_array_equal(getattr(first, key), array[:n])


@pytest.mark.parametrize("n", [-1, 0, N + 1])
def test_first_refuses_a_count_the_set_lacks(n):
    assert_refused(lambda: image_set().first(n), "'some'", str(N), str(n), "data.test_images")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": arrays()["images"].astype(np.float32) / 255}, ["images", "float32", "rint"]),
        ({"images": arrays()["images"][..., 0]}, ["images", f"[{N}, {H}, {W}]", "4 dimension"]),
        ({"images": arrays()["images"].astype(np.int64)}, ["images", "int64"]),
        ({"images": arrays()["images"][:0], "labels": np.arange(0), "ids": np.arange(0)}, ["empty"]),
        ({"labels": arrays()["labels"][:-1]}, [f"{N} images", f"{N - 1} labels"]),
        ({"labels": arrays()["labels"].astype(np.float64)}, ["labels", "float64"]),
        ({"labels": arrays()["labels"].astype(np.int32)}, ["labels", "int32"]),
        ({"labels": np.eye(N, dtype=np.int64)}, ["labels", f"[{N}, {N}]"]),
        ({"labels": np.array([0, 1, 2, 3, -2, 0])}, ["label -2", "-1"]),
        ({"ids": np.array([10, 3, 7, 0, 3, 50])}, ["id 3", "2 times"]),
        ({"ids": np.arange(N, dtype=np.uint8)}, ["ids", "uint8"]),
        ({"ids": np.arange(N + 1)}, [f"{N + 1} ids"]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, change, words):
    assert_refused(lambda: ImageSet("some", **{**arrays(), **change}), "'some'", *words)
    path = write(tmp_path, **change)
    assert_refused(lambda: ImageSet.load(path), str(path), *words)


def test_save_and_load_return_the_same_set(tmp_path):
    image_set().save(tmp_path / "new" / "some.npz")
    loaded = load_image_set(tmp_path / "new" / "some.npz", num_classes=4, image_shape=[C, H, W])
    assert loaded.name == "some"
    for key, array in arrays().items():
        assert getattr(loaded, key).dtype == array.dtype
        np.testing.assert_array_equal(getattr(loaded, key), array)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["some.npz"]


def test_two_saves_give_the_same_bytes(tmp_path, monkeypatch):
    image_set().save(tmp_path / "first.npz")
    in_two_years = time.time() + 2 * 365 * 24 * 3600
    monkeypatch.setattr(time, "time", lambda: in_two_years)
    image_set().save(tmp_path / "second.npz")
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()


def test_save_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        image_set().save(tmp_path / "some.npz")
    assert list(tmp_path.iterdir()) == []


def test_defaults_and_unknown_arrays(tmp_path):
    loaded = ImageSet.load(write(tmp_path, labels=None, ids=None, class_names=np.array(["cat", "dog"])))
    assert (loaded.labels == -1).all() and loaded.labels.dtype == np.int64
    np.testing.assert_array_equal(loaded.ids, np.arange(N))


def test_jpeg_streams_are_decoded_to_rgb(tmp_path):
    images = arrays()["images"]
    loaded = load_image_set(write(tmp_path, **jpeg_pack([*images[:-1], images[-1, ..., 0]])), image_shape=[C, H, W])
    assert loaded.images.shape == (N, H, W, C)
    streams = jpeg_pack(images[:1])["jpeg"].tobytes()
    np.testing.assert_array_equal(loaded.images[0], np.asarray(Image.open(io.BytesIO(streams)).convert("RGB")))
    assert (loaded.images[-1, ..., 0] == loaded.images[-1, ..., 1]).all()


def test_missing_file(tmp_path):
    assert_refused(lambda: ImageSet.load(tmp_path / "none.npz"), "none.npz", "no such file")
    assert_refused(lambda: ImageSet.load(tmp_path), str(tmp_path), "no such file")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_file_of_another_kind(tmp_path, content):
    path = tmp_path / "some.npz"
    path.write_bytes(content)
    assert_refused(lambda: ImageSet.load(path), str(path), "not a readable npz")


def test_lone_array_file(tmp_path):
    path = tmp_path / "some.npy"
    np.save(path, arrays()["images"])
    assert_refused(lambda: ImageSet.load(path), str(path), "not a readable npz")


def test_pickled_arrays_are_refused(tmp_path):
    assert_refused(lambda: ImageSet.load(write(tmp_path, labels=np.array([{}] * N))), "not a readable npz", "some.npz")


def test_truncated_file(tmp_path):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    assert_refused(lambda: ImageSet.load(path), str(path), "not a readable npz")


@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_file_is_refused_or_read_as_it_was(tmp_path, compressed):
    path = tmp_path / "some.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays())
    intact = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(intact)
        damaged[rng.integers(len(damaged))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            loaded = ImageSet.load(path)
        except InputError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            np.testing.assert_array_equal(loaded.images, arrays()["images"])
    assert refused > 100


def test_file_without_images(tmp_path):
    assert_refused(lambda: ImageSet.load(write(tmp_path, images=None)), "some.npz", "['ids', 'labels']", "no images")
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    assert_refused(lambda: ImageSet.load(tmp_path / "empty.npz"), "empty.npz", "no images")


def test_class_count_disagrees(tmp_path):
    path = write(tmp_path)
    assert len(load_image_set(path, num_classes=4)) == N
    assert_refused(
        lambda: load_image_set(path, num_classes=3), str(path), "class count disagrees", "label 3", "3 classes"
    )


def test_image_shape_disagrees(tmp_path):
    path = write(tmp_path)
    assert_refused(
        lambda: load_image_set(path, image_shape=[C, W, H]),
        str(path),
        f"[{C}, {H}, {W}]",
        f"[{C}, {W}, {H}]",
        "data.image",
    )


def test_bad_jpeg_streams(tmp_path):
    pack = jpeg_pack(arrays()["images"])

    def refused(*words, **changes):
        path = write(tmp_path, **{**pack, **changes})
        assert_refused(lambda: ImageSet.load(path), str(path), *words)

    middle = pack["offsets"][2]
    refused("JPEG stream 2", "decoded", jpeg=np.concatenate([pack["jpeg"][:middle], 0 * pack["jpeg"][middle:]]))
    refused("offsets", "float64", offsets=pack["offsets"].astype(float))
    refused("offsets", "do not divide", offsets=pack["offsets"][:-1])
    refused("offsets", "do not divide", offsets=pack["offsets"][::-1])
    refused("offsets", "do not divide", offsets=pack["offsets"][:0])
    refused("jpeg", "int64", jpeg=pack["jpeg"].astype(np.int64))
    refused("no images", jpeg=None)
    refused("empty", offsets=np.array([0]), jpeg=pack["jpeg"][:0], labels=None, ids=None)
    refused(
        "JPEG stream 1 is [5, 3, 3]", "[5, 4, 3]", **jpeg_pack([arrays()["images"][0], arrays()["images"][1][:, :3]])
    )


@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
def test_noise_image_depends_on_its_index_alone(kind):
    whole, part = noise_set(kind, 50, (1, 8, 8), seed=0), noise_set(kind, 20, (1, 8, 8), seed=0)
    np.testing.assert_array_equal(whole.images[:20], part.images)
    np.testing.assert_array_equal(part.ids, np.arange(20))
    assert part.name == f"{kind}_noise" and (part.labels == -1).all()
    assert len(np.unique(whole.images.reshape(50, -1), axis=0)) == 50


@pytest.mark.parametrize(("kind", "digest"), [("gaussian", "c05e2967f7fef405"), ("uniform", "624d77f024ff5c6e")])
def test_noise_is_the_same_in_every_version(kind, digest):
    assert hashlib.sha256(noise_set(kind, 3, (1, 8, 8), seed=0).images.tobytes()).hexdigest().startswith(digest)


def test_noise_changes_with_seed_and_kind():
    images = {
        noise_set(kind, 1, (1, 8, 8), seed).images.tobytes() for kind in ("gaussian", "uniform") for seed in (0, 1)
    }
    assert len(images) == 4


def test_noise_has_its_distribution():
    uniform = noise_set("uniform", 500, (3, 16, 16), seed=0).floats()
    assert abs(uniform.mean() - 1 / 2) < 0.005 and abs(uniform.std() - 12**-0.5) < 0.005
    assert uniform.min() == 0 and uniform.max() == 1
    gaussian = noise_set("gaussian", 500, (3, 16, 16), seed=0).floats()
    clipped = np.clip(0.5 + 0.25 * np.random.default_rng(0).standard_normal(10**6), 0, 1)
    assert abs(gaussian.mean() - 0.5) < 0.005 and abs(gaussian.std() - clipped.std()) < 0.005
    assert abs((gaussian == 1).mean() - (clipped > 1 - 0.5 / 255).mean()) < 0.005
    neighbours = np.corrcoef(uniform[:-1].ravel(), uniform[1:].ravel())[0, 1]
    assert abs(neighbours) < 0.01


def test_unknown_noise():
    assert_refused(lambda: noise_set("pink", 1, (1, 8, 8), seed=0), "'pink'", "gaussian, uniform")


def test_messages_name_their_file_once(tmp_path):
    path = write(tmp_path)
    text = assert_refused(lambda: load_image_set(path, num_classes=1))
    assert len(re.findall(re.escape(str(path)), text)) == 1
