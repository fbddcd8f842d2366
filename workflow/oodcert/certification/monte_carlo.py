"""Draws of a network under keyed Gaussian noise, in batches of one fixed shape across images."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from oodcert.certification.precision import check_precision
from oodcert.errors import InputError
from oodcert.models.wrappers import DenoisedNetwork, denoise
from oodcert.runtime.device_noise import device_noise
from oodcert.runtime.keyed_noise import keyed_noise
from oodcert.runtime.memory import with_oom_backoff
from oodcert.runtime.transfer import to_device, to_host

CHANGES_INPUT = (
    "A network changes its input in place, so that those after it would see other images: certify it on its own, or "
    "let it work on a copy."
)
BATCH_SIZE, BATCH_VALUES = 500, 8_000_000  # images, and pixel values, of a batch unless another size is asked for
CACHED_VALUES = 128 * 3 * 32 * 32  # the latter on a CPU, whose cache should hold what a layer computes


def default_batch_size(shape: Sequence[int], device: torch.device | str) -> int:
    """How many images of shape (C, H, W) pass through the network together.

    500, or fewer if they are large; on a CPU 128 of 3 x 32 x 32 pixels.

    Args:
        shape: (C, H, W) of the images.
        device: Where the network runs.

    Returns:
        A number of images from 1 to 500.
    """
    values = CACHED_VALUES if torch.device(device).type == "cpu" else BATCH_VALUES
    return min(BATCH_SIZE, max(1, values // prod(shape)))


class Stopping(Protocol):
    """Decides, image by image, when its draws are enough."""

    def start_batch(self, positions: set[int]) -> None:
        """Called before a batch is evaluated, with the positions of the images that it has draws of."""

    def is_finished(self, position: int, draws: np.ndarray) -> bool:
        """Whether an image needs no more draws. Called at every look but the last, with the draws so far."""


class _NeverEarly:
    """Every image has all its draws."""

    def start_batch(self, positions: set[int]) -> None:
        pass

    def is_finished(self, position: int, draws: np.ndarray) -> bool:
        return False


def sample(
    evaluate: Callable[[Tensor], Tensor],
    images: Tensor,
    ids: Sequence[int] | np.ndarray,
    name: str,
    *,
    sigma: float,
    looks: Sequence[int],
    seed: int,
    batch_size: int,
    stopping: Stopping | None = None,
    refuse: Callable[[np.ndarray], None] | None = None,
    precision: str = "float32",
    ahead: int | None = None,
    progress: str | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Draws of each image under noise: evaluate(x + δ_i), δ_i ~ N(0, sigma² I).

    The noise of draw i depends on (seed, name, id, i) alone. Batches cross image boundaries and the last one is padded,
    so every pass has the same shape. Few images are under way at once, whatever N. Results are the same bits in every
    order and shard if the network gives an image the same bits at every place of a batch, as nearly all do.

    Args:
        evaluate: From a batch [batch_size, C, H, W], or less if memory does not suffice, to a tensor with a row per
            noisy image.
        images: [N, C, H, W] in [0, 1], on the network's device.
        ids: N stable sample ids.
        name: Of the set of images.
        sigma: Standard deviation of the noise, above 0.
        looks: Numbers of draws n_1 < … < n_K. After each, `stopping` may finish an image; n_K draws always do.
        seed: Of the noise.
        batch_size: Rows of every pass.
        stopping: By default every image has n_K draws.
        refuse: Called with the rows of every batch once they are on the host. It raises an error about rows that
            evaluate has marked, so that evaluate need not wait for the device.
        precision: In "float32" noise is numpy's, made on the host. In "bfloat16" it is made on the device (see
            oodcert.runtime.device_noise), and batches are channels_last.
        ahead: How many batches the device may be given before the rows of one are looked at, so that it need not wait.
            By default one on a GPU, else none.
        progress: Label of a progress bar.

    Yields:
        (position, draws [n_k, ...]) of each image once it is finished; with one look in the order of the images.

    Raises:
        InputError: sigma, the first look or batch_size is not positive, or precision is unknown.
    """
    for key, value in (("sigma", sigma), ("draws", looks[0]), ("batch_size", batch_size)):
        if not value > 0:
            raise InputError(f"{key} = {value}: certification needs a positive {key}.")
    check_precision(precision)
    noisy = _NoisyImages(images, np.asarray(ids), name, sigma, seed, precision)
    evaluate, stopping = with_oom_backoff(evaluate), stopping or _NeverEarly()
    queue, planned = _DrawQueue(len(images), looks), len(images) * looks[-1]
    ahead = int(images.is_cuda) if ahead is None else ahead
    in_flight = deque[tuple[list[_Span], Tensor, Callable[[], None]]]()
    with tqdm(total=planned, desc=progress, unit="draw", disable=not progress) as bar:
        while queue.ready or in_flight:
            if not in_flight or (len(in_flight) <= ahead and queue.ready >= batch_size):
                spans = queue.take(batch_size)
                stopping.start_batch({span.position for span in spans})
                with torch.inference_mode(False), torch.no_grad():
                    in_flight.append((spans, *to_host(evaluate(noisy.batch(spans, batch_size)))))
                continue
            spans, sent, wait = in_flight.popleft()
            wait()
            rows = sent.numpy()
            if refuse:
                refuse(rows)
            for span in spans:
                queue.add(span.position, rows[: span.length])
                rows = rows[span.length :]
                bar.update(span.length)
                draws = queue.draws_at_look(span.position)
                if draws is None:
                    continue
                if len(draws) == looks[-1] or stopping.is_finished(span.position, draws):
                    planned -= looks[-1] - len(draws)
                    bar.total = planned
                    queue.close(span.position)
                    yield span.position, draws
                else:
                    queue.extend(span.position)


class _Span(NamedTuple):
    """Draws first .. last - 1 of the image at a position."""

    position: int
    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first


class _DrawQueue:
    """Which draws are still to be made: those of images under way first, in turn, then those of new images.

    ready: how many can be taken now.
    """

    def __init__(self, count: int, looks: Sequence[int]) -> None:
        self.ready, self.looks = count * looks[0], looks
        self.new, self.open = iter(range(count)), deque[_Span]()
        self.goal: dict[int, int] = {}  # position of an image under way -> draws at its next look
        self.rows: dict[int, list[np.ndarray]] = {}  # its draws so far
        self.drawn: dict[int, int] = {}  # and their number

    def take(self, size: int) -> list[_Span]:
        """Spans of at most `size` draws together; empty when all is done."""
        spans = []
        while size:
            if not self.open:
                position = next(self.new, None)
                if position is None:
                    break
                self.rows[position], self.drawn[position] = [], 0
                self.goal[position] = self.looks[0]
                self.open.append(_Span(position, 0, self.looks[0]))
            position, first, last = self.open.popleft()
            taken = min(size, last - first)
            if first + taken < last:
                self.open.appendleft(_Span(position, first + taken, last))
            spans.append(_Span(position, first, first + taken))
            size -= taken
            self.ready -= taken
        return spans

    def add(self, position: int, rows: np.ndarray) -> None:
        """Keeps the next draws of an image."""
        self.rows[position].append(rows)
        self.drawn[position] += len(rows)

    def draws_at_look(self, position: int) -> np.ndarray | None:
        """All draws of an image that has come to a look, None before."""
        if self.drawn[position] < self.goal[position]:
            return None
        draws = np.concatenate(self.rows[position])
        self.rows[position] = [draws]
        return draws

    def extend(self, position: int) -> None:
        """Asks for the draws of an image up to its next look."""
        reached = self.goal[position]
        goal = self.looks[self.looks.index(reached) + 1]
        self.open.append(_Span(position, reached, goal))
        self.ready += goal - reached
        self.goal[position] = goal

    def close(self, position: int) -> None:
        """Forgets a finished image."""
        del self.rows[position], self.drawn[position], self.goal[position]


@dataclass(frozen=True)
class _NoisyImages:
    """Images and what the noise on them depends on (see `sample`)."""

    images: Tensor
    ids: np.ndarray
    name: str
    sigma: float
    seed: int
    precision: str

    def batch(self, spans: Sequence[_Span], size: int) -> Tensor:
        """Noisy images [size, C, H, W], the last one repeated where the spans are shorter."""
        shape, device = self.images.shape[1:], self.images.device
        index = np.repeat([span.position for span in spans], [span.length for span in spans])
        if self.precision == "float32":
            noise = to_device(np.concatenate([self._host_noise(span) for span in spans]), device)
        else:
            draws = to_device(np.concatenate([np.arange(span.first, span.last) for span in spans]), device)
            samples = to_device(self.ids[index].astype(np.int64), device)
            noise = device_noise(self.seed, self.name, samples, draws, shape)
        batch = noise.mul_(self.sigma).add_(self.images[to_device(index, device)])
        if len(batch) < size:
            batch = torch.cat([batch, batch[-1:].expand(size - len(batch), *shape)])
        return batch if self.precision == "float32" else batch.contiguous(memory_format=torch.channels_last)

    def _host_noise(self, span: _Span) -> np.ndarray:
        shape = self.images.shape[1:]
        return keyed_noise(self.seed, self.name, self.ids[span.position], span.first, span.length, shape)


@contextmanager
def shared_denoising(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Within it, networks behind one denoiser share its pass over a batch that they are given one after another.

    The batch must be one and the same tensor. Not for inference mode.

    Args:
        networks: Networks that may hold DenoisedNetworks.

    Yields:
        Nothing: the denoisers share their passes while the context lasts.

    Raises:
        InputError: One of the networks has changed the shared images in place.
    """
    denoised = [one for network in networks for one in network.modules() if isinstance(one, DenoisedNetwork)]
    latest: _LatestPass = {}
    with ExitStack() as stack:
        for one in dict.fromkeys(denoised):
            stack.enter_context(one.denoising_by(_SharedDenoiser(one.denoiser, latest)))
        yield


Denoiser = Callable[[Tensor, float], Tensor]  # (noisy [N, C, H, W], sigma) -> images in [0, 1]
_LatestPass = dict[tuple[Denoiser, float], tuple[Tensor, Tensor, int]]  # last batch, its result, the result's version


@dataclass(frozen=True)
class _SharedDenoiser:
    """A denoiser that gives its latest result again where it is given the same batch again."""

    denoiser: Denoiser
    latest: _LatestPass

    def __call__(self, noisy: Tensor, sigma: float) -> Tensor:
        key = (self.denoiser, sigma)
        batch, result, version = self.latest.get(key, (None, None, 0))
        if result is None or batch is not noisy:
            result = denoise(self.denoiser, noisy, sigma)
            self.latest[key] = noisy, result, result._version
        elif result._version != version:
            raise InputError(CHANGES_INPUT)
        return result
