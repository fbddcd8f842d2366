"""What `certify` and `certify_labels` are given: checked alike, and before any draw."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from oodcert.certification.joint_sampling import SmoothingSettings
from oodcert.errors import InputError
from oodcert.models.calls import evaluation_mode, require_network
from oodcert.models.images import as_images
from oodcert.models.trial import Judge, try_network
from oodcert.runtime.values import number, numbers, whole_number, whole_numbers

UNIQUE = "give each image a different integer from 0 to 2**63 - 1"
WHOLE = "one whole number is needed"


@dataclass(frozen=True)
class GivenImages:
    """The images that are certified, on their device.

    Attributes:
        images: Float tensor [N, C, H, W] in [0, 1].
        ids: N different ints that key the noise.
    """

    images: Tensor
    ids: list[int]


def checked_images(images: Any, ids: Any, device: Any = None) -> GivenImages:
    """The images and their ids.

    Args:
        images: Float tensor, array or list [N, C, H, W] in [0, 1].
        ids: N different integers; None: the positions.
        device: Where to run; None: where the images are.

    Returns:
        Both; the images are on the device.

    Raises:
        InputError: One of them is of another kind.
    """
    tensor = as_images(images).detach()
    given = list(range(len(tensor))) if ids is None else whole_numbers("ids", ids, len(tensor), UNIQUE)
    if len(set(given)) != len(given):
        raise InputError(f"{len(given)} ids for {len(tensor)} images, some of them alike: {UNIQUE}.")
    try:
        return GivenImages(tensor if device is None else tensor.to(torch.device(device)), given)
    except (RuntimeError, TypeError, AssertionError) as error:  # no such device, or none here
        first = next(iter(str(error).splitlines()), "")
        raise InputError(f"device = {device!r} can't be used here ({first}): use 'cpu', or leave it out.") from error


def checked_settings(settings: SmoothingSettings) -> SmoothingSettings:
    """The settings as plain numbers.

    Args:
        settings: As the caller gave them.

    Returns:
        The same, with floats and ints.

    Raises:
        InputError: One of them is no such number.
    """
    if not isinstance(settings.name, str):
        raise InputError(f"name = {settings.name!r}: the name of a set is text.")
    size = settings.batch_size
    alpha = "an alpha between 0 and 1/2 is needed, the error probability of a bound"
    return replace(
        settings,
        sigma=number("sigma", settings.sigma, lambda s: 0 < s < inf, "certification needs one positive sigma"),
        n=whole_number("n", settings.n, lambda n: n > 0, "a whole number of draws is needed, at least 1"),
        alpha=number("alpha", settings.alpha, lambda a: 0 < a < 0.5, alpha),
        seed=whole_number("seed", settings.seed, lambda seed: True, WHOLE),
        batch_size=None if size is None else whole_number("batch_size", size, lambda b: b > 0, f"{WHOLE}, at least 1"),
    )


def checked_radii(radii: Any) -> list[float]:
    """The radii, each once.

    Args:
        radii: A number or several, at least 0.

    Returns:
        Floats, in the given order.

    Raises:
        InputError: There are none, or one is no radius.
    """
    return numbers("radii", radii, lambda r: 0 <= r < inf, "give one or more finite radii of at least 0")


def by_name(given: Any, kind: str) -> dict[str, Any]:
    """Detectors or networks by name.

    Args:
        given: One, or a dict of several.
        kind: Of what they are; the message names it.

    Returns:
        Name -> detector or network; the name of a single one is "".

    Raises:
        InputError: The dict is empty.
    """
    if not isinstance(given, Mapping):
        return {"": given}
    if not given:
        raise InputError(f"No {kind} was given: pass one, or a dict of them by name.")
    return dict(given)


def try_networks(networks: Iterable[Any], given: GivenImages, judge: Judge) -> None:
    """Tries each network on the first image (see oodcert.models.trial).

    Args:
        networks: They are moved to the device of the images.
        given: What is certified.
        judge: Of the networks' logits.

    Raises:
        InputError: A network is of a kind that can't be certified.
    """
    for network in networks:
        moved: nn.Module = require_network(network).to(given.images.device)
        with evaluation_mode(moved):
            try_network(moved, given.images[:1].float(), judge)
