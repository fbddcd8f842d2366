"""How methods, sets, bounds, metrics and networks are spelled where people read them."""

MARK = "†"  # of a method whose attack is not reliable

SPELLING = {
    "apgd": "APGD",
    "pgd": "PGD",
    "apgd-ce": "APGD-CE",
    "apgd-dlr": "APGD-DLR",
    "apgd-t": "APGD-T",
    "fab-t": "FAB-T",
    "square": "Square",
    "plain": "Plain",
    "oe": "OE",
    "logitnorm": "LogitNorm",
    "vos": "VOS",
    "acet": "ACET",
    "atom": "ATOM",
    "good": "GOOD",
    "prood": "ProoD",
    "diffusion": "Diffusion",
    "distro": "DISTRO",
    "id": "ID",
    "held_out_digits": "held-out digits",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
    "lsun_crop": "LSUN crop",
    "tinyimagenet_crop": "TinyImageNet crop",
    "random_images": "300K random images",
    "tiny_imagenet": "Tiny ImageNet",
    "lsun_resize": "LSUN resize",
    "mnist": "MNIST",
    "imagenet": "ImageNet",
    "auc": "AUC",
    "fpr95": "FPR95",
    "adversarial_auc": "adversarial AUC",
    "adversarial_fpr95": "adversarial FPR95",
    "guaranteed_auc": "guaranteed AUC",
    "cnn": "CNN",
    "resnet18": "ResNet-18",
    "patch_resnet": "patch ResNet",
    "wideresnet": "WideResNet",
    "densenet": "DenseNet",
    "ibp_cnn_xl": "IBP CNN XL",
}


def label(name: str) -> str:
    """The readable form of such a name. A name that is not in SPELLING loses its underscores."""
    return SPELLING.get(name, name.replace("_", " "))


def marked(method: str, reliable: bool) -> str:
    """A method's label, with MARK where its attack fails a sanity check."""
    return label(method) if reliable else f"{label(method)} {MARK}"
