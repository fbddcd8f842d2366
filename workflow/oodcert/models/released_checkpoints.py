"""The networks of released weights, and the import of their files: docs/weights.md tells where each is released."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from oodcert.errors import InputError
from oodcert.models.architectures.denoiser import DiffusionDenoiser, cosine_schedule
from oodcert.models.architectures.densenet import densenet
from oodcert.models.architectures.ibp_cnn import ibp_cnn_s, ibp_cnn_xl
from oodcert.models.architectures.improved_unet import TIMESTEPS, ImprovedUNet
from oodcert.models.architectures.normalise import Normalise
from oodcert.models.architectures.resnet import resnet18
from oodcert.models.architectures.wideresnet import wideresnet
from oodcert.models.weight_files import mismatches, read_state, without_prefix
from oodcert.models.weight_names import renamed
from oodcert.models.wrappers import JointNetwork
from oodcert.runtime.torch_setup import in_float32

IMAGE_SHAPE = (3, 32, 32)
CIFAR = [value / 255 for value in (125.3, 123.0, 113.9)], [value / 255 for value in (63.0, 62.1, 66.7)]  # mean, std
LOGITNORM = [0.492, 0.482, 0.446], [0.247, 0.244, 0.262]
JOINT = ("base_model.", "detector.")  # before the names of a joint model's components


@dataclass(frozen=True)
class Format:
    """A kind of file of released weights.

    Attributes:
        role: "classifier", "discriminator", "joint" or "denoiser".
        build: Number of outputs -> network with fresh weights.
        layers: The file's names of the layers that have weights, in the order of the network's. Empty where both have
            the same names, as the UNet has.
        head: The layer whose outputs are counted, where their number is free.
    """

    role: str
    build: Callable[[int], nn.Module]
    layers: tuple[str, ...] = ()
    head: str = ""


def _resnet18_layers() -> Iterator[str]:
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    for block in blocks:
        yield from (f"{block}.{layer}" for layer in ("conv1", "bn1", "conv2", "bn2"))
        if block in ("layer2.0", "layer3.0", "layer4.0"):
            yield from (f"{block}.shortcut.0", f"{block}.shortcut.1")


def _wideresnet_layers() -> Iterator[str]:
    for block in (f"block{stage}.layer.{index}" for stage in (1, 2, 3) for index in range(6)):
        yield from (f"{block}.{layer}" for layer in ("bn1", "conv1", "bn2", "conv2"))
        if block.endswith(".0"):
            yield f"{block}.convShortcut"


def _densenet_layers() -> Iterator[str]:
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


def _resnet18(outputs: int) -> nn.Module:
    return resnet18(IMAGE_SHAPE, outputs, width=64)


def _discriminator(_: int) -> nn.Module:
    return ibp_cnn_s(IMAGE_SHAPE, 1, width=128)


def _joint(outputs: int) -> nn.Module:
    return JointNetwork(_resnet18(outputs), _discriminator(outputs), outputs)


def _good(outputs: int) -> nn.Module:
    return ibp_cnn_xl(IMAGE_SHAPE, outputs, width=128)


def _logitnorm(outputs: int) -> nn.Module:
    return nn.Sequential(Normalise(*LOGITNORM), *wideresnet(IMAGE_SHAPE, outputs, depth=40, widen=2))


def _vos(outputs: int) -> nn.Module:
    return nn.Sequential(Normalise(*CIFAR), *wideresnet(IMAGE_SHAPE, outputs, depth=40, widen=2))


def _densenet(outputs: int) -> nn.Module:
    return nn.Sequential(Normalise(*CIFAR), *densenet(IMAGE_SHAPE, outputs, depth=100, growth=12))


def _improved_diffusion(_: int) -> nn.Module:
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


def load_checkpoint(path: str | Path, format: str) -> nn.Module:
    """The network of a file of released weights, in evaluation mode, float32, with inputs in [0, 1].

    Classifiers are nn.Sequentials whose last module is the linear head. Where the original was trained on normalised
    images, they begin with that normalisation. The number of classes is that of the file's head. docs/weights.md says
    where each file is released and what is known of it. Nothing in the file is executed.

    Args:
        path: What torch.save or safetensors wrote: the state dict alone, or in a dict, with or without what wrappers
            put before the names, such as DataParallel's "module.".
        format: One of

            - "prood-joint": a JointNetwork;
            - "prood-classifier", "prood-discriminator": from a file of that network alone, or from that of a joint
              model;
            - "good", "logitnorm", "vos", "acet": classifiers;
            - "atom": a classifier with a class of outliers last, whose score is "atom";
            - "improved-diffusion": a DiffusionDenoiser.

    Returns:
        The network.

    Raises:
        InputError: The file cannot be read or trusted; or tensors are missing, unexpected, of another shape, or hold
            NaN or infinity. The first such tensors are named.
    """
    wanted = _format(format)
    state = read_state(path, lambda state: _fits(format, state))
    source = _format_of(format, state)
    network = _loaded(source, state, path)
    return (network if source == format else getattr(network, wanted.role)).eval()


def released_network(format: str, outputs: int) -> nn.Module:
    """The network that load_checkpoint loads weights into, with fresh weights.

    Args:
        format: One of load_checkpoint's.
        outputs: Number of logits of a classifier. A discriminator has one and a denoiser none, whatever this says.

    Returns:
        The network.

    Raises:
        InputError: The format is unknown.
    """
    return _format(format).build(outputs)


def released_component(image_shape: Sequence[int], outputs: int | None, format: str) -> nn.Module:
    """The network of a config entry {"name": "released", "format": ...} with fresh weights.

    Args:
        image_shape: (C, H, W), which must be (3, 32, 32).
        outputs: Number of logits; 1 asks for a discriminator and None for a denoiser.
        format: One of load_checkpoint's.

    Returns:
        The network.

    Raises:
        InputError: The format is unknown or of another role, or the images have another shape.
    """
    role = "denoiser" if outputs is None else "discriminator" if outputs == 1 else "classifier"
    if _format(format).role != role:
        suitable = ", ".join(name for name, known in FORMATS.items() if known.role == role)
        raise InputError(f"The released format {format!r} is a {FORMATS[format].role}, not a {role}: use {suitable}.")
    if tuple(image_shape) != IMAGE_SHAPE:
        raise InputError(f"Released networks take images of shape {IMAGE_SHAPE}, not {tuple(image_shape)}.")
    return released_network(format, outputs or 0)


def released_names(format: str, network: nn.Module) -> dict[str, str]:
    """How the tensors of a released network are called in its file.

    Args:
        format: One of load_checkpoint's.
        network: The network of released_network.

    Returns:
        Key of the network's state dict -> name of the tensor in the file.
    """
    layers = [(name, layer) for name, layer in network.named_modules() if list(layer.parameters(recurse=False))]
    names = FORMATS[format].layers or [name.removeprefix("noise_model.") for name, _ in layers]
    return {
        f"{ours}.{key}": f"{theirs}.{key}"
        for (ours, layer), theirs in zip(layers, names, strict=True)
        for key in layer.state_dict()
    }


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise InputError(f"Unknown format of released weights {name!r}: use one of {', '.join(FORMATS)}.")
    return FORMATS[name]


def _format_of(format: str, state: Iterable[str]) -> str:
    """The format of a file: that of a joint model may hold the component that is meant."""
    joint = format in ("prood-classifier", "prood-discriminator") and any(
        prefix in name for prefix in JOINT for name in state
    )
    return "prood-joint" if joint else format


def _fits(format: str, state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the names and shapes of that format."""
    _, names, expected = _fresh(_format_of(format, state), state)
    found = renamed(state, names.values())
    shapes = {theirs: expected[ours].shape for ours, theirs in names.items()}
    return {name: tensor.shape for name, tensor in found.items()} == shapes


def _fresh(format: str, state: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, str], dict[str, Tensor]]:
    """The network of that format with as many outputs as the state has, its `released_names`, and its state dict."""
    head = FORMATS[format].head
    ends = tuple(f"{head}.{tensor}" for tensor in ("weight", "bias"))
    counted = [tensor for name, tensor in state.items() if head and name.endswith(ends) and tensor.ndim]
    outputs = len(counted[0]) if counted else 1
    # no storage and no random weights, which would move the random number generator on
    with torch.device("meta"), in_float32():
        network = released_network(format, outputs)
    return network, released_names(format, network), network.state_dict()


def _loaded(format: str, read: Mapping[str, Tensor], path: str | Path) -> nn.Module:
    """The network of that format with a state dict's tensors, once all of them fit."""
    network, names, expected = _fresh(format, read)
    state = renamed(read, names.values())
    faults = mismatches(state, {theirs: expected[ours] for ours, theirs in names.items()})
    if faults:
        raise InputError(
            f"{path} does not hold the weights of {format!r}{without_prefix(read, names.values())}: "
            f"{'; '.join(faults)}. Check the path and the format; if both are right, get the file again."
        )
    tensors = {ours: state[theirs].detach().to(expected[ours].dtype, copy=True) for ours, theirs in names.items()}
    network.load_state_dict(tensors, assign=True)
    return network
