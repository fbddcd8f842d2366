"""How methods, sets and bounds are spelled where people read them."""

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
}


def label(name):
    """The readable form of a method's, set's or bound's name; without a spelling of its own, underscores go."""
    return SPELLING.get(name, name.replace("_", " "))


def marked(method, reliable):
    """A method's label, with MARK where its attack fails a sanity check."""
    return label(method) if reliable else f"{label(method)} {MARK}"
