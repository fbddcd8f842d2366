"""Certified OOD detection on real CIFAR-10 images: `train` trains a ResNet-8, `certify` bounds its scores in l2 balls.

Both read the npz files named below. CIFAR-10 and Tiny ImageNet are JPEG images of quality 75 in them; the OOD sets are
re-encoded alike, or a detector could key on compression. `train --help` and `certify --help` give the options.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import oodcert
from oodcert.config.models import Recipe
from oodcert.data.imageset import ImageSet
from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import sidecar, write_evidence, write_json
from oodcert.models.components import load_component, save_component
from oodcert.models.networks import build_network
from oodcert.runtime.files import sha256
from oodcert.runtime.keyed_noise import derive_seed
from oodcert.training.loop import Batch, Data, fit_classifier
from oodcert.training.oe import outlier_exposure_loss

SEED = 0
SIGMA = 0.12  # noise in training and in the certificates, on the [0, 1] pixel scale
NETWORK = {"name": "resnet", "depth": 8, "width": 16}
RECIPE = Recipe(
    start_from=None,
    epochs=7,
    batch_size=64,
    learning_rate=0.1,
    schedule="steps",
    weight_decay=1e-4,
    augmentation="flip_crop",
)
OUTLIER_WEIGHT = 0.5
CERTIFICATES = {
    "radii": [round(0.05 * i, 2) for i in range(9)],
    "alpha": 0.01,
    "bounds": ["percentile", "cdf", "gaussian", "lipschitz"],
}
TRAIN, TEST, OUTLIERS = "cifar10/train_jpegpack.npz", "cifar10/test.npz", "tiny_imagenet/train_jpegpack.npz"
OOD = {
    "svhn": "svhn/train_lossless_first1083.npz",
    "textures": "textures/dtd_first10_categories.npz",
    "cifar100": "cifar100/test_lossless_subset.npz",
}
OVERLAP = (  # Tiny ImageNet classes that are, or look like, a CIFAR-10 class
    "n02814533 n03100240 n03670208 n04285008 n03796401 n03977966 n01855672 n02002724 n02056570 n02058221 "
    "n02123045 n02123394 n02124075 n02085620 n02094433 n02099601 n02099712 n02106662 n02113799 n01641577 "
    "n01644900 n03447447 n03662601 n02423022 n03444034 n04465501 n04146614 n04487081"
)


def train(arguments: argparse.Namespace) -> None:
    """Trains with noise and outlier exposure; writes the weights and, beside them, where they come from."""
    paths = [arguments.datasets / path for path in (TRAIN, TEST, OUTLIERS)]
    recipe = RECIPE.as_json() | {"outlier_weight": OUTLIER_WEIGHT}
    provenance = Provenance({"seed": SEED, "sigma": SIGMA, "network": NETWORK, "training": recipe}, paths)
    id_set, test = map(ImageSet.load, paths[:2])
    images, others = (torch.from_numpy(a).permute(0, 3, 1, 2).contiguous() for a in (id_set.images, outliers(paths[2])))
    torch.manual_seed(derive_seed(SEED, "weights"))
    network = build_network(NETWORK, id_set.shape, 10).to(memory_format=torch.channels_last)

    def loss(batch: Batch) -> dict[str, Tensor]:
        images = torch.cat([batch.images, batch.outliers[::2]])
        outputs = network(noisy(images, SIGMA, batch.generator)).log_softmax(1)
        return outlier_exposure_loss(outputs, batch.labels, OUTLIER_WEIGHT)

    data = Data(images, torch.from_numpy(id_set.labels), others)
    checkpoint = arguments.out.with_suffix(".checkpoint")
    fit_classifier(network, loss, data, RECIPE, seed=derive_seed(SEED, "training"), checkpoint=checkpoint)
    save_component(network, arguments.out)
    result = {f"accuracy, sigma {sigma}": accuracy(network, test, sigma) for sigma in (0, SIGMA)}
    write_json(provenance.record(sha256=sha256(arguments.out), **result), sidecar(arguments.out))
    checkpoint.unlink(missing_ok=True)
    print(result)


def outliers(path: Path) -> np.ndarray:
    """Tiny ImageNet images, uint8 [N, H, W, C], of the classes that are not in OVERLAP."""
    everything, classes = ImageSet.load(path), np.load(path)["wnids"]
    return everything.images[np.array([name not in OVERLAP for name in classes])[everything.labels]]


def noisy(images: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Images [N, C, H, W] plus N(0, sigma² I) noise."""
    return images + sigma * torch.randn(images.shape, generator=generator)


def accuracy(network: nn.Module, test: ImageSet, sigma: float) -> float:
    """Share of test images whose class is right under one draw of noise each."""
    generator = torch.Generator().manual_seed(derive_seed(SEED, "accuracy"))
    with torch.inference_mode():
        batches = [noisy(images, sigma, generator) for images in torch.from_numpy(test.floats()).split(500)]
        logits = torch.cat([network.eval()(batch) for batch in batches])
    return (logits.argmax(1).numpy() == test.labels).mean().item()


def certify(arguments: argparse.Namespace) -> None:
    """Writes the certificates of the ID set and of every OOD set; prints the guaranteed metrics."""
    network = load_component(build_network(NETWORK, (3, 32, 32), 10), arguments.weights)
    detector = oodcert.Detector(network.to(memory_format=torch.channels_last))
    settings, tables = {"sigma": SIGMA, "n": arguments.n, "seed": SEED, **CERTIFICATES}, {}
    for name, path in {"cifar10": TEST, **OOD}.items():
        provenance = Provenance({"set": name, **settings}, [arguments.weights, arguments.datasets / path])
        images = ImageSet.load(arguments.datasets / path)
        images = spread(images, arguments.images) if name in OOD else images.first(arguments.images)
        floats = torch.from_numpy(images.floats())
        tables[name] = oodcert.certify(detector, floats, ids=images.ids, name=name, progress=name, **settings)
        write_evidence(tables[name].assign(set=name), arguments.out / f"{name}.parquet", provenance)
    for name in OOD:
        print(name, oodcert.guaranteed_metrics(tables["cifar10"], tables[name]).round(3), sep="\n")


def spread(images: ImageSet, n: int) -> ImageSet:
    """n images spread evenly over a set, as its file may be ordered by class, each saved once as JPEG."""
    chosen, streams = np.arange(n) * len(images) // n, [io.BytesIO() for _ in range(n)]
    for index, stream in zip(chosen, streams, strict=True):
        Image.fromarray(images.images[index]).save(stream, "JPEG", quality=75)
    decoded = np.stack([np.asarray(Image.open(stream)) for stream in streams])
    return ImageSet(images.name, decoded, np.full(n, -1), images.ids[chosen])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for run in (train, certify):
        command = commands.add_parser(run.__name__, help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
        command.add_argument("--datasets", type=Path, required=True, help="folder of the image sets")
        command.add_argument("--out", type=Path, required=True, help="safetensors file" if run is train else "folder")
    command.add_argument("--weights", type=Path, required=True, help="safetensors file written by train")
    command.add_argument("--images", type=int, default=500, help="images of each set, up to 916 (default %(default)s)")
    command.add_argument("--n", type=int, default=1000, help="noise draws an image (default %(default)s)")
    arguments = parser.parse_args()
    arguments.run(arguments)
