"""Networks by name, as the config gives them."""

from oodcert.errors import InputError
from oodcert.networks.cnn import cnn
from oodcert.networks.ibp_cnn import ibp_cnn_s
from oodcert.networks.resnet import resnet

NETWORKS = {"cnn": cnn, "ibp_cnn_s": ibp_cnn_s, "resnet": resnet}


def build_network(spec, image_shape, outputs):
    """The network of a config entry such as {"name": "cnn", "width": 16}, with fresh weights.

    image_shape: (C, H, W); outputs: number of logits. Raises InputError on an unknown name.
    """
    options = dict(spec)
    name = options.pop("name")
    if name not in NETWORKS:
        raise InputError(f"Unknown network {name!r}: use one of {', '.join(sorted(NETWORKS))}.")
    return NETWORKS[name](image_shape, outputs, **options)
