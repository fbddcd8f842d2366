"""Networks built from networks: joint, denoised, noisy, and cut to the classes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import inf, log
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from oodcert.errors import InputError
from oodcert.models.calls import fitted, require_callable, run
from oodcert.models.checks import checked_logits
from oodcert.runtime.values import number, whole_number


class JointNetwork(nn.Module):
    """ProoD's joint model of a classifier and a discriminator: p(y|x) = p(y|x, i) p(i|x) + (1 - p(i|x)) / K.

    Forward maps images to log p(y|x) [N, K], computed in the log domain, and without gradients in float64. The
    exponentials of each row sum to one.

    Args:
        classifier: Maps images [N, C, H, W] to logits [N, K] of p(y|x, i).
        discriminator: Maps images to one logit [N] or [N, 1] of p(i|x), the probability of being in-distribution.
        num_classes: K.

    Raises:
        InputError: A network can't be called, or num_classes is another number.

    Source: Meinke et al. (2022), https://arxiv.org/abs/2106.04260
    """

    fits_images = True  # for each network in it (see oodcert.models.calls.fitted)

    def __init__(
        self,
        classifier: nn.Module | Callable[[Tensor], Tensor],
        discriminator: nn.Module | Callable[[Tensor], Tensor],
        num_classes: int,
    ) -> None:
        super().__init__()
        require_callable("The classifier", classifier)
        require_callable("The discriminator", discriminator)
        self.classifier, self.discriminator = classifier, discriminator
        self.num_classes = whole_number(
            "num_classes", num_classes, lambda k: k > 0, "give a whole number of classes, at least 1"
        )

    def forward(self, images: Tensor) -> Tensor:
        """log p(y|x) [N, K] of images [N, C, H, W].

        InputError where the classifier gives other than K logits, or the discriminator other than one.
        """
        logits, id_logit = run(self.classifier, images), run(self.discriminator, images)
        if id_logit.numel() != len(images):
            raise InputError(
                f"The discriminator gave {tuple(id_logit.shape)} for {len(images)} images: one logit an image is "
                "needed. Of two logits give their difference."
            )
        if logits.ndim != 2 or logits.shape[1] != self.num_classes:
            raise InputError(
                f"The joint network was built for {self.num_classes} classes, its classifier gives "
                f"{logits.shape[-1]} logits: pass num_classes={logits.shape[-1]}, or the classifier that belongs to it."
            )
        given = torch.promote_types(logits.dtype, torch.float32)  # autocast would leave some terms to bfloat16
        exact = given if torch.is_grad_enabled() else torch.float64  # in which confident images keep their order
        id_logit = id_logit.reshape(-1, 1)
        return joint_log_probabilities(logits.to(exact), id_logit.to(exact), self.num_classes).to(given)


def joint_log_probabilities(logits: Tensor, id_logit: Tensor, num_classes: int) -> Tensor:
    """The log-probabilities of JointNetwork.

    Args:
        logits: The classifier's [N, K].
        id_logit: The discriminator's [N, 1].
        num_classes: Over how many classes the mass of the second term, 1 - p(i|x), is spread.

    Returns:
        log p(y|x) [N, K].
    """
    known = logits.log_softmax(1) + logsigmoid(id_logit)
    return torch.logaddexp(known, logsigmoid(-id_logit) - log(num_classes))


class ClassLogits(nn.Module):
    """The logits of the first num_classes classes, for networks that have a class of outliers after them.

    Args:
        network: Maps images [N, C, H, W] to logits [N, K] with K ≥ num_classes.
        num_classes: How many logits are kept.
    """

    fits_images = True

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.network, self.num_classes = network, num_classes

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, num_classes] of images [N, C, H, W]."""
        return run(self.network, images)[:, : self.num_classes]


class DenoisedNetwork(nn.Module):
    """Denoises once, then classifies. It adds no noise: its input is meant to be noisy already.

    Args:
        network: Maps images [N, C, H, W] in [0, 1] to logits [N, K].
        denoiser: Callable (noisy images [N, C, H, W], sigma) -> denoised images in [0, 1].
        sigma: Standard deviation of the noise, in the [0, 1] pixel scale.

    Raises:
        InputError: A network can't be called, or sigma is no such number.

    Source: Carlini et al. (2023), https://arxiv.org/abs/2206.10550
    """

    fits_images = True

    def __init__(
        self, network: nn.Module, denoiser: nn.Module | Callable[[Tensor, float], Tensor], sigma: float
    ) -> None:
        super().__init__()
        require_callable("The network", network)
        require_callable("The denoiser", denoiser)
        self.network, self.denoiser, self.sigma = network, denoiser, noise_level(sigma)
        self._stand_in: Callable[[Tensor, float], Tensor] | None = None

    @contextmanager
    def denoising_by(self, denoise: Callable[[Tensor, float], Tensor]) -> Iterator[None]:
        """A context in which another function takes the place of the denoiser.

        Args:
            denoise: Callable (noisy images [N, C, H, W], sigma) -> denoised images in [0, 1].

        Yields:
            Nothing: the other function denoises while the context lasts.
        """
        self._stand_in = denoise
        try:
            yield
        finally:
            self._stand_in = None

    def forward(self, noisy: Tensor) -> Tensor:
        """Logits [N, K] of noisy images [N, C, H, W]."""
        return run(self.network, (self._stand_in or partial(denoise, self.denoiser))(noisy, self.sigma))


def denoise(denoiser: nn.Module | Callable[[Tensor, float], Tensor], noisy: Tensor, sigma: float) -> Tensor:
    """Denoised images.

    Args:
        denoiser: Callable (noisy images, sigma) -> denoised images.
        noisy: Images [N, C, H, W].
        sigma: Standard deviation of their noise.

    Returns:
        Images [N, C, H, W].

    Raises:
        InputError: The denoiser gives something else.
    """
    denoised = denoiser(fitted(denoiser, noisy), sigma)
    if not isinstance(denoised, Tensor) or denoised.shape != noisy.shape or not denoised.is_floating_point():
        got = f"{denoised.dtype} of shape {tuple(denoised.shape)}" if isinstance(denoised, Tensor) else type(denoised)
        raise InputError(f"The denoiser gave {got} for images of shape {tuple(noisy.shape)}: images like them needed.")
    return denoised


class NoisyNetwork(nn.Module):
    """Adds fresh N(0, sigma² I) noise to its input at every pass: the randomised form of a network.

    Within `with network.replay(noise):` passes use the given noise instead.

    Args:
        network: Maps images [N, C, H, W] to logits [N, K].
        sigma: Standard deviation of the noise, in the [0, 1] pixel scale.

    Raises:
        InputError: The network can't be called, or sigma is no such number.
    """

    fits_images = True

    def __init__(self, network: nn.Module, sigma: float) -> None:
        super().__init__()
        require_callable("The network", network)
        self.network, self.sigma = network, noise_level(sigma)
        self._noise: Tensor | None = None

    @contextmanager
    def replay(self, noise: Tensor) -> Iterator[None]:
        """A context in which passes use this noise.

        Args:
            noise: Standard normal noise of the images' shape, [N, C, H, W]. It is multiplied by sigma.

        Yields:
            Nothing: the noise is used while the context lasts.
        """
        self._noise = noise
        try:
            yield
        finally:
            self._noise = None

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K] of images [N, C, H, W] with noise added."""
        noise = torch.randn_like(images) if self._noise is None else self._noise
        return run(self.network, images + self.sigma * noise)


def noise_level(sigma: Any) -> float:
    """A standard deviation of noise as a float; InputError where it is none."""
    return number("sigma", sigma, lambda s: 0 <= s < inf, "one finite standard deviation of at least 0 is needed")


def noisy_modules(network: nn.Module) -> list[NoisyNetwork]:
    """The NoisyNetworks in a network.

    Args:
        network: Any nn.Module.

    Returns:
        The modules; none for a deterministic network.
    """
    return [module for module in network.modules() if isinstance(module, NoisyNetwork)]


def replayed_logits(network: nn.Module, images: Tensor, noise: Tensor) -> Tensor:
    """The logits of a randomised network under given noise draws in place of fresh noise.

    Args:
        network: A network that has exactly one NoisyNetwork in it.
        images: Float tensor [N, C, H, W].
        noise: Standard normal draws [m, N, C, H, W].

    Returns:
        Logits [m, N, K].

    Raises:
        InputError: The logits have another shape or are not finite.
    """
    (noisy,) = noisy_modules(network)
    with noisy.replay(noise.flatten(0, 1)):
        return checked_logits(network, images.repeat(len(noise), 1, 1, 1)).unflatten(0, (len(noise), -1))
