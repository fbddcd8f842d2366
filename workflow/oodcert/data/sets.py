"""The image sets of a profile: read, made alike, and cut to the images that are used.

Every set of the registry and every one of one's own is put in a random order that never changes, so its first n images
are a fair sample whatever order its source has. A sample's id is its position in the source.
"""

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from oodcert.data.bundled import build
from oodcert.data.folder import select_pixels
from oodcert.data.imageset import ImageSet
from oodcert.data.noise_sets import NOISE, noise_set
from oodcert.data.overlaps import overlapping
from oodcert.data.readers import mirror_classes, read_mirror, read_set, set_classes
from oodcert.data.registry import entry_of
from oodcert.data.sources import BUNDLED, DOWNLOADS, encoding, in_mirror, own_path
from oodcert.errors import InputError
from oodcert.runtime.keyed_noise import derive_seed

NOISE_SEED = 0  # noise sets are test data like the others: they do not change with the config's seed


def id_sets(config):
    """The whole ID training set and ID test set: {"id_train", "id_test"} -> ImageSet.

    config: data and data_mirror are used, here and below. Raises InputError on images that do not fit data.image_shape,
    and on labels other than 0 to data.num_classes - 1, each of which the training set must have.
    """
    data = config["data"]
    train, test = (read(data["id"], split, config).check(data["num_classes"]) for split in ("train", "test"))
    classes = np.unique(train.labels)
    if not np.array_equal(classes, np.arange(data["num_classes"])):
        raise InputError(
            f"The class count disagrees: the training images of {data['id']!r} have {len(classes)} classes, numbered "
            f"{classes[0]} to {classes[-1]}, but data.num_classes is {data['num_classes']}. Correct one."
        )
    if test.labels.min() < 0:
        raise InputError(f"The test images of {data['id']!r} have no labels: store them as `labels`, classes from 0.")
    return {"id_train": train, "id_test": test}


def outlier_sets(config):
    """The outliers, whole but for classes that the ID set has as well (data/overlaps.csv): {"outliers": ImageSet}."""
    return {"outliers": replace(read(config["data"]["outliers"], "train", config), name="outliers")}


def ood_sets(config):
    """The first data.test_images of every set of data.ood: name -> ImageSet, all labels -1.

    Raises InputError where a set has fewer, or images of another shape than data.image_shape.
    """
    return {name: read(name, "test", config, config["data"]["test_images"]) for name in config["data"]["ood"]}


def read(name, split, config, count=None):
    """One split of an image set, whole or its first images, at the config's size and through JPEG where it says so."""
    data = config["data"]
    image_set = _read(name, split, config, count)
    image_set = image_set if count is None else image_set.first(count)
    image_set.check(image_shape=data["image_shape"])
    quality = data["jpeg_quality"]
    if quality is not None and encoding(name, split, config) != f"jpeg{quality}":
        image_set = replace(image_set, images=np.stack([_through_jpeg(image, quality) for image in image_set.images]))
    return image_set if name == data["id"] else replace(image_set, labels=np.full(len(image_set), -1, np.int64))


def _read(name, split, config, count):
    data = config["data"]
    if name in data["own"]:
        return _shuffled(_own(name, own_path(data["own"][name], split), data["image_shape"]), split)
    if name in NOISE:
        return noise_set(name.removesuffix("_noise"), count, data["image_shape"], NOISE_SEED)
    if (name, split) in BUNDLED:
        return build(BUNDLED[name, split])
    entry, mirror, size = entry_of(name, split), config["data_mirror"], data["image_shape"][1]
    mirrored = in_mirror(entry, mirror)
    image_set = read_mirror(entry, mirror) if mirrored else read_set(entry, DOWNLOADS, size)
    if name == data["outliers"]:
        classes = mirror_classes(entry, mirror) if mirrored else set_classes(entry, DOWNLOADS)
        left_out = overlapping(name, data["id"])
        shared = [label for label, class_name in enumerate(classes) if class_name in left_out]
        image_set = image_set.chosen(~np.isin(image_set.labels, shared))
    return _shuffled(image_set, split)


def _own(name, path, image_shape):
    if path.suffix == ".npz":
        return replace(ImageSet.load(path), name=name)
    positions, images = select_pixels(path, size=image_shape[1])
    return ImageSet(name, images, np.full(len(images), -1, np.int64), np.array(positions, np.int64))


def _shuffled(image_set, split):
    generator = np.random.default_rng(derive_seed(0, "order", image_set.name, split))
    return image_set.chosen(generator.permutation(len(image_set)))


def _through_jpeg(image, quality):
    """uint8 [H, W, C], compressed with Pillow's defaults (4:2:0 chroma) and decoded; C is 1 or 3."""
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer, formats=["JPEG"]) as decoded:
        return np.asarray(decoded).reshape(image.shape)
