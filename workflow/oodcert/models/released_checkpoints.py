"""The networks of published weights, and the import of their files: docs/weights.md tells where each is published."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from oodcert.errors import InputError
from oodcert.models.architectures.denoiser import DiffusionDenoiser, cosine_schedule
from oodcert.models.architectures.densenet import densenet
from oodcert.models.architectures.ibp_cnn import ibp_cnn_s, ibp_cnn_xl
from oodcert.models.architectures.improved_unet import TIMESTEPS, ImprovedUNet
from oodcert.models.architectures.normalise import Normalise
from oodcert.models.architectures.resnet import resnet18
from oodcert.models.architectures.wideresnet import wideresnet
from oodcert.models.user_networks import mismatches, read_state
from oodcert.models.wrappers import JointNetwork

IMAGE_SHAPE = (3, 32, 32)
CIFAR = [value / 255 for value in (125.3, 123.0, 113.9)], [value / 255 for value in (63.0, 62.1, 66.7)]  # mean, std
LOGITNORM = [0.492, 0.482, 0.446], [0.247, 0.244, 0.262]
JOINT = ("base_model.", "detector.")  # before the names of a joint model's parts


@dataclass(frozen=True)
class Format:
    """A kind of published file.

    role: "classifier", "discriminator", "joint" or "denoiser"; build: number of outputs -> network with fresh weights;
    layers: the file's names of the layers that have weights, in the order of the network's (empty: they are the UNet's
    own names); head: the one whose outputs are counted, if their number is free.
    """

    role: str
    build: Callable
    layers: tuple = ()
    head: str = ""


def _resnet18_layers():
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    for block in blocks:
        yield from (f"{block}.{layer}" for layer in ("conv1", "bn1", "conv2", "bn2"))
        if block in ("layer2.0", "layer3.0", "layer4.0"):
            yield from (f"{block}.shortcut.0", f"{block}.shortcut.1")


def _wideresnet_layers():
    for block in (f"block{stage}.layer.{index}" for stage in (1, 2, 3) for index in range(6)):
        yield from (f"{block}.{layer}" for layer in ("bn1", "conv1", "bn2", "conv2"))
        if block.endswith(".0"):
            yield f"{block}.convShortcut"


def _densenet_layers():
    for stage in (1, 2, 3):
        yield from (
            f"block{stage}.layer.{index}.{layer}" for index in range(16) for layer in ("bn1", "conv1", "bn2", "conv2")
        )
        if stage < 3:
            yield from (f"trans{stage}.bn1", f"trans{stage}.conv1")


RESNET18 = ("conv1", "bn1", *_resnet18_layers(), "linear")
WIDERESNET = ("conv1", *_wideresnet_layers(), "bn1", "fc")
DENSENET = ("conv1", *_densenet_layers(), "bn1", "fc")
CNN_S = ("C1", "C2", "C3", "L4", "L5")
CNN_XL = ("C1", "C2", "C3", "C4", "C5", "L6", "L7", "L8")


def _resnet18(outputs):
    return resnet18(IMAGE_SHAPE, outputs, width=64)


def _discriminator(_):
    return ibp_cnn_s(IMAGE_SHAPE, 1, width=128)


def _joint(outputs):
    return JointNetwork(_resnet18(outputs), _discriminator(outputs), outputs)


def _good(outputs):
    return ibp_cnn_xl(IMAGE_SHAPE, outputs, width=128)


def _logitnorm(outputs):
    return nn.Sequential(Normalise(*LOGITNORM), *wideresnet(IMAGE_SHAPE, outputs, depth=40, widen=2))


def _vos(outputs):
    return nn.Sequential(Normalise(*CIFAR), *wideresnet(IMAGE_SHAPE, outputs, depth=40, widen=2))


def _densenet(outputs):
    return nn.Sequential(Normalise(*CIFAR), *densenet(IMAGE_SHAPE, outputs, depth=100, growth=12))


def _improved_diffusion(_):
    return DiffusionDenoiser(ImprovedUNet(128), cosine_schedule(TIMESTEPS))


FORMATS = {
    "prood-joint": Format(
        "joint",
        _joint,
        (*(f"base_model.{layer}" for layer in RESNET18), *(f"detector.{layer}" for layer in CNN_S)),
        "base_model.linear",
    ),
    "prood-classifier": Format("classifier", _resnet18, RESNET18, "linear"),
    "prood-discriminator": Format("discriminator", _discriminator, CNN_S),
    "good": Format("classifier", _good, CNN_XL, "L8"),
    "logitnorm": Format("classifier", _logitnorm, WIDERESNET, "fc"),
    "vos": Format("classifier", _vos, WIDERESNET, "fc"),
    "acet": Format("classifier", _densenet, DENSENET, "fc"),
    "atom": Format("classifier", _densenet, DENSENET, "fc"),
    "improved-diffusion": Format("denoiser", _improved_diffusion),
}


def load_checkpoint(path, format):
    """The network of a published file of weights, in evaluation mode, float32, with inputs in [0, 1].

    format: "prood-joint" (a JointNetwork), "prood-classifier" and "prood-discriminator" (from a file of their own, or
    from that of a joint model), "good", "logitnorm", "vos", "acet", "atom" (with a class of outliers last; its score is
    "atom"), or "improved-diffusion" (a DiffusionDenoiser). Classifiers are nn.Sequentials whose last module is the
    linear head; where the original was trained on normalised images, they begin with that normalisation. The number of
    classes is that of the file's head. docs/weights.md says where each file is published and what is known of it.
    path: as torch.save or safetensors wrote it, the state dict alone or in a dict as "state_dict" or "model", with or
    without DataParallel's "module." before the names. Nothing in the file is executed.
    Raises InputError where the file cannot be read or trusted, and where a tensor is missing, unexpected, of another
    shape, or holds NaN or infinity: all such tensors are named.
    """
    wanted = _format(format)
    state = read_state(path)
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    if format in ("prood-classifier", "prood-discriminator") and any(name.startswith(JOINT) for name in state):
        return getattr(_filled("prood-joint", state, path), wanted.role).eval()
    return _filled(format, state, path).eval()


def released_network(format, outputs):
    """The network that load_checkpoint fills, with fresh weights.

    outputs: number of logits, of which a discriminator has one and a denoiser none whatever it says.
    Raises InputError on an unknown format.
    """
    return _format(format).build(outputs)


def released_component(image_shape, outputs, format):
    """The network of a config entry {"name": "published", "format": ...} with fresh weights.

    outputs: number of logits; 1 asks for a discriminator and None for a denoiser. Raises InputError on an unknown
    format, on one of another role, and on images that are not (3, 32, 32).
    """
    role = {1: "discriminator", None: "denoiser"}.get(outputs, "classifier")
    if _format(format).role != role:
        with_oom_backoff = ", ".join(name for name, found in FORMATS.items() if found.role == role)
        raise InputError(
            f"The published format {format!r} is a {FORMATS[format].role}, not a {role}: use {with_oom_backoff}."
        )
    if tuple(image_shape) != IMAGE_SHAPE:
        raise InputError(f"Published networks take images of shape {IMAGE_SHAPE}, not {tuple(image_shape)}.")
    return released_network(format, outputs)


def released_names(format, network):
    """key of the network's state dict -> name of the tensor in the published file."""
    layers = [(name, layer) for name, layer in network.named_modules() if list(layer.parameters(recurse=False))]
    names = FORMATS[format].layers or [name.removeprefix("noise_model.") for name, _ in layers]
    return {
        f"{ours}.{key}": f"{theirs}.{key}"
        for (ours, layer), theirs in zip(layers, names, strict=True)
        for key in layer.state_dict()
    }


def _format(name):
    if name not in FORMATS:
        raise InputError(f"Unknown format of published weights {name!r}: use one of {', '.join(FORMATS)}.")
    return FORMATS[name]


def _filled(format, state, path):
    """The network of that format with a state dict's tensors, once all of them fit."""
    head = FORMATS[format].head
    counted = [state[name] for name in (f"{head}.weight", f"{head}.bias") if name in state and state[name].ndim]
    outputs = len(counted[0]) if counted else 1
    with torch.device("meta"):  # no storage and no random weights, which would move the random number generator on
        network = released_network(format, outputs)
    names, expected = released_names(format, network), network.state_dict()
    faults = mismatches(state, {theirs: expected[ours] for ours, theirs in names.items()})
    if faults:
        raise InputError(
            f"{path} does not hold the weights of {format!r}: {'; '.join(faults)}. Check the path and the format; if "
            "both are right, get the file again."
        )
    tensors = {ours: state[theirs].detach().to(expected[ours].dtype, copy=True) for ours, theirs in names.items()}
    network.load_state_dict(tensors, assign=True)
    return network
