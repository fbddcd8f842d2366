"""The readers on tiny files of the official layouts, made here."""

import dataclasses
import hashlib
import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from jpeg_streams import jpeg_pack
from oodcert.data.folder import load_images
from oodcert.data.readers import mirror_classes, read_mirror, read_set, set_classes
from oodcert.data.registry import entry_of
from refusals import assert_refused

RNG = np.random.default_rng(0)


def pixels(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def entry(folder, name, split="test"):
    """The registry's entry, but with the checksums of the file in the folder."""
    real = entry_of(name, split)
    data = (folder / real.file).read_bytes()
    return dataclasses.replace(
        real, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), md5=hashlib.md5(data).hexdigest()
    )


def write_tar(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def png(array, kind="PNG", **options):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def string(data):
    """A string as Python 2 pickled it."""
    return b"T" + struct.pack("<i", len(data)) + data


def number(value):
    return b"J" + struct.pack("<i", value)


def python2_batch(rows, **lists):
    """A pickle of {"data": uint8 array, name: list of numbers or strings}, as CIFAR's are: protocol 2, of Python 2."""
    parts = [b"\x80\x02}(", string(b"data"), b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"]
    parts += [number(0), b"\x85", string(b"b"), b"\x87R(", number(1), number(rows.shape[0]), number(rows.shape[1])]
    parts += [b"\x86cnumpy\ndtype\n", string(b"u1"), number(0), number(1), b"\x87R(", number(3), string(b"|"), b"NNN"]
    parts += [number(-1), number(-1), number(0), b"tb\x89", string(rows.tobytes()), b"tb"]
    for key, values in lists.items():
        items = [string(value.encode()) if isinstance(value, str) else number(value) for value in values]
        parts += [string(key.encode()), b"](", *items, b"e"]
    return b"".join([*parts, b"u."])


def rows_of(images):
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def test_cifar10(tmp_path):
    images, labels = pixels(12, 32, 32, 3), RNG.integers(0, 10, 12).tolist()
    batches = [python2_batch(rows_of(images[i : i + 2]), labels=labels[i : i + 2]) for i in range(0, 12, 2)]
    files = {f"cifar-10-batches-py/data_batch_{number}": batches[number - 1] for number in (2, 1, 3, 5, 4)}
    files["cifar-10-batches-py/test_batch"] = batches[5]
    files["cifar-10-batches-py/batches.meta"] = python2_batch(pixels(1, 1), label_names=["plane", "car"])
    write_tar(tmp_path / "cifar-10-python.tar.gz", files)
    train = read_set(entry(tmp_path, "cifar10", "train"), tmp_path, 32)
    assert train.name == "cifar10" and np.array_equal(train.images, images[:10])
    assert train.labels.tolist() == labels[:10] and train.ids.tolist() == list(range(10))
    test = read_set(entry(tmp_path, "cifar10"), tmp_path, 32)
    assert np.array_equal(test.images, images[10:]) and test.labels.tolist() == labels[10:]
    assert set_classes(entry(tmp_path, "cifar10"), tmp_path) == ("plane", "car")
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-python.tar.gz"]


def test_cifar100_has_fine_labels_and_is_resized(tmp_path):
    images = pixels(3, 32, 32, 3)
    batch = python2_batch(rows_of(images), coarse_labels=[0, 1, 1], fine_labels=[7, 99, 0])
    names = python2_batch(pixels(1, 1), coarse_label_names=["fruit"], fine_label_names=["apple", "bed"])
    write_tar(tmp_path / "cifar-100-python.tar.gz", {"cifar-100-python/test": batch, "cifar-100-python/meta": names})
    found = read_set(entry(tmp_path, "cifar100"), tmp_path, 8)
    assert found.images.shape == (3, 8, 8, 3) and found.labels.tolist() == [7, 99, 0]
    np.savez(tmp_path / "same.npz", images=images)
    assert np.array_equal(found.floats(), load_images(tmp_path / "same.npz", 8).numpy())
    assert set_classes(entry(tmp_path, "cifar100"), tmp_path) == ("apple", "bed")


def test_svhn(tmp_path):
    images = pixels(4, 32, 32, 3)
    savemat(tmp_path / "test_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": np.uint8([[1], [10], [9], [10]])})
    found = read_set(entry(tmp_path, "svhn"), tmp_path, 32)
    assert np.array_equal(found.images, images) and found.labels.tolist() == [1, 0, 9, 0]
    assert set_classes(entry(tmp_path, "svhn"), tmp_path) == tuple("0123456789")


def test_textures(tmp_path):
    wide, tall = np.zeros((40, 80, 3), np.uint8), np.zeros((80, 40, 3), np.uint8)
    wide[:, 20:60], tall[20:60] = 255, 200
    files = {
        "dtd/images/zigzagged/zigzagged_0002.jpg": png(tall, "JPEG", quality=95),
        "dtd/images/banded/banded_0002.jpg": png(tall, "JPEG", quality=95),
        "dtd/images/banded/banded_0001.jpg": png(wide, "JPEG", quality=95),
        "dtd/images/waffled/.directory": b"of a file manager",
        "dtd/labels/train1.txt": b"banded/banded_0001.jpg\n",
    }
    write_tar(tmp_path / "dtd-r1.0.1.tar.gz", files)
    found = read_set(entry(tmp_path, "textures"), tmp_path, 32)
    assert found.images.shape == (3, 32, 32, 3) and found.labels.tolist() == [0, 0, 1]
    assert np.abs(found.images.mean((1, 2, 3)) - [255, 200, 200]).max() < 6
    assert set_classes(entry(tmp_path, "textures"), tmp_path) == ("banded", "zigzagged")


def test_tiny_imagenet(tmp_path):
    images = {f"train/{wnid}/images/{wnid}_{n}.JPEG": pixels(64, 64, 3) for wnid in ("n2", "n1") for n in (10, 9)}
    with zipfile.ZipFile(tmp_path / "tiny-imagenet-200.zip", "w") as archive:
        archive.writestr("tiny-imagenet-200/", "")
        archive.writestr("tiny-imagenet-200/wnids.txt", "n2\nn1")
        archive.writestr("tiny-imagenet-200/train/n1/n1_boxes.txt", "n1_9.JPEG 0 0 63 63")
        archive.writestr("tiny-imagenet-200/val/images/val_0.JPEG", png(pixels(64, 64, 3), "JPEG"))
        for name, image in images.items():
            archive.writestr(f"tiny-imagenet-200/{name}", png(image, "JPEG"))
    tiny = entry(tmp_path, "tiny_imagenet", "train")
    found = read_set(tiny, tmp_path, 32)
    assert found.labels.tolist() == [1, 1, 0, 0] and set_classes(tiny, tmp_path) == ("n2", "n1")
    for name in images:
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(images[name], "JPEG"))
    assert np.array_equal(found.floats(), load_images(tmp_path / "folder", 32).numpy())


@pytest.mark.parametrize("name", ["lsun_crop", "lsun_resize", "tinyimagenet_crop"])
def test_odin(tmp_path, name):
    images = {name: pixels(36, 36, 3) for name in ("2", "10", "0")}
    files = {f"LSUN/test/{name}.png": png(image) for name, image in images.items()} | {"LSUN/test/._0.png": b"?"}
    write_tar(tmp_path / entry_of(name, "test").file, files)
    found = read_set(entry(tmp_path, name), tmp_path, 36)
    assert found.name == name and found.labels.tolist() == [-1] * 3
    assert np.array_equal(found.images, [images[name] for name in ("0", "10", "2")])
    assert set_classes(entry(tmp_path, name), tmp_path) == ()


def test_random_images_stay_on_disk(tmp_path):
    images = pixels(5, 32, 32, 3)
    np.save(tmp_path / "300K_random_images.npy", images)
    random = entry(tmp_path, "random_images", "train")
    found = read_set(random, tmp_path, 32)
    assert isinstance(found.images, np.memmap) and np.array_equal(found.images, images)
    assert read_set(random, tmp_path, 8).images.shape == (5, 8, 8, 3)


def test_a_mirror_is_read_with_its_index_and_class_names(tmp_path):
    images = pixels(3, 32, 32, 3)
    mirrored = dataclasses.replace(entry_of("cifar100", "test"), mirror="sub/some.npz")
    path = tmp_path / "sub" / "some.npz"
    path.parent.mkdir()

    def write(**arrays):
        np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
        return dataclasses.replace(mirrored, mirror_sha256=hashlib.sha256(path.read_bytes()).hexdigest())

    here = write(images=images, labels=np.array([1, 0, 1]), index=np.array([30, 10, 20]))
    found = read_mirror(here, tmp_path)
    assert found.name == "cifar100" and np.array_equal(found.images, images)
    assert found.labels.tolist() == [1, 0, 1] and found.ids.tolist() == [30, 10, 20]
    assert mirror_classes(here, tmp_path) == ()
    here = write(**jpeg_pack(images), class_names=np.array(["tench"]), wnids=np.array(["n1"]))
    assert read_mirror(here, tmp_path).ids.tolist() == [0, 1, 2] and mirror_classes(here, tmp_path) == ("n1",)
    here = write(images=images, class_names=np.array(["a", "b"]))
    assert mirror_classes(here, tmp_path) == ("a", "b")
    assert_refused(lambda: read_mirror(mirrored, tmp_path), "some.npz", mirrored.mirror_sha256, here.mirror_sha256)
    assert_refused(lambda: read_mirror(here, tmp_path / "none"), "none", "data_mirror", "oodcert data fetch cifar100")


class Malice:
    def __reduce__(self):
        return Path.write_text, (Path("owned"), "by a pickle")


def test_no_pickle_is_trusted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for code in (Malice(), {"data": Malice()}, {"data": np.array([Malice()], object), "labels": [0]}):
        write_tar(tmp_path / "cifar-10-python.tar.gz", {"cifar-10-batches-py/test_batch": pickle.dumps(code, 2)})
        assert_refused(lambda: read_set(entry(tmp_path, "cifar10"), tmp_path, 32), "test_batch", "could run code")
        assert_refused(lambda: read_set(entry_of("cifar10", "test"), tmp_path, 32), "bytes, not 170498071")
    np.save("300K_random_images.npy", np.array([Malice()], object))
    assert_refused(lambda: read_set(entry(tmp_path, "random_images", "train"), tmp_path, 32), "npy", "fetch it again")
    np.savez("some.npz", images=pixels(1, 2, 2, 3), index=np.array([Malice()], object))
    sha256 = hashlib.sha256(Path("some.npz").read_bytes()).hexdigest()
    mirrored = dataclasses.replace(entry_of("cifar100", "test"), mirror="some.npz", mirror_sha256=sha256)
    assert_refused(lambda: read_mirror(mirrored, tmp_path), "some.npz", "index")
    assert not Path("owned").exists()


def test_a_file_that_is_missing_or_not_what_it_should_be_is_named(tmp_path):
    assert_refused(
        lambda: read_set(entry_of("svhn", "test"), tmp_path, 32), "test_32x32.mat", "oodcert data fetch svhn", "mirror"
    )
    assert_refused(
        lambda: read_set(entry_of("openimages", "train"), tmp_path, 32), "openimages", "of your own", "docs/data.md"
    )
    (tmp_path / "test_32x32.mat").write_bytes(b"no matlab file")
    assert_refused(lambda: read_set(entry(tmp_path, "svhn"), tmp_path, 32), "test_32x32.mat", "matlab")
    for array in (pixels(2, 3072), np.zeros((2, 32, 32, 3)), pixels(2, 32)):
        np.save(tmp_path / "300K_random_images.npy", array)
        assert_refused(lambda: read_set(entry(tmp_path, "random_images", "train"), tmp_path, 32), "random_images")
    np.save(tmp_path / "300K_random_images.npy", pixels(2, 32, 32, 3))
    path = tmp_path / "300K_random_images.npy"
    path.write_bytes(path.read_bytes()[:-5])
    assert_refused(lambda: read_set(entry(tmp_path, "random_images", "train"), tmp_path, 32), "readable npy")
    write_tar(tmp_path / "LSUN.tar.gz", {"LSUN/test/readme.txt": b""})
    assert_refused(lambda: read_set(entry(tmp_path, "lsun_crop"), tmp_path, 32), "LSUN.tar.gz", "no images")
    write_tar(tmp_path / "LSUN.tar.gz", {"LSUN/test/0.png": png(pixels(36, 36, 3))[:-40]})
    assert_refused(lambda: read_set(entry(tmp_path, "lsun_crop"), tmp_path, 32), "LSUN.tar.gz: LSUN/test/0.png")
    batch = python2_batch(pixels(2, 30), labels=[0, 1])
    write_tar(tmp_path / "cifar-10-python.tar.gz", {"cifar-10-batches-py/test_batch": batch})
    assert_refused(lambda: read_set(entry(tmp_path, "cifar10"), tmp_path, 32), "test_batch", "3072")
    assert_refused(lambda: read_set(entry(tmp_path, "cifar10", "train"), tmp_path, 32), "data_batch_1")
    assert_refused(lambda: set_classes(entry(tmp_path, "cifar10"), tmp_path), "batches.meta")
    with zipfile.ZipFile(tmp_path / "tiny-imagenet-200.zip", "w") as archive:
        archive.writestr("tiny-imagenet-200/wnids.txt", "n2")
        archive.writestr("tiny-imagenet-200/train/n1/images/n1_0.JPEG", png(pixels(64, 64, 3), "JPEG"))
    tiny = entry(tmp_path, "tiny_imagenet", "train")
    assert_refused(lambda: read_set(tiny, tmp_path, 32), "n1", "wnids.txt")
