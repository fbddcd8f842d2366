"""Draws of a network under keyed Gaussian noise, in batches of one fixed shape across images."""

from collections import deque
from contextlib import ExitStack, contextmanager
from math import prod

import numpy as np
import torch
from tqdm import tqdm

from oodcert.certification.precision import check_precision
from oodcert.errors import InputError
from oodcert.models.wrappers import DenoisedNetwork
from oodcert.runtime.device_noise import device_noise
from oodcert.runtime.keyed_noise import keyed_noise
from oodcert.runtime.memory import with_oom_backoff

IN_PLACE = (
    "A network changes its input in place, so that those after it would see other images: certify it on its own, or "
    "let it work on a copy."
)
BATCH_SIZE, BATCH_VALUES = 500, 8_000_000  # images, and pixel values, of a batch unless another size is asked for
CACHED_VALUES = 128 * 3 * 32 * 32  # the latter on a CPU, whose cache should hold what a layer computes


def default_batch_size(shape, device):
    """How many images of shape (C, H, W) pass through the network together: 500, or fewer if they are large, on a CPU
    128 of 3 x 32 x 32 pixels."""
    values = CACHED_VALUES if torch.device(device).type == "cpu" else BATCH_VALUES
    return min(BATCH_SIZE, max(1, values // prod(shape)))


def sample(
    evaluate,
    images,
    ids,
    name,
    *,
    sigma,
    stages,
    seed,
    batch_size,
    settled=None,
    coming=None,
    refuse=None,
    precision="float32",
    ahead=None,
    progress=None,
):
    """Yields (position, draws [n_k, ...]) of each image once it is finished: evaluate(x + δ_i), δ_i ~ N(0, sigma² I).

    evaluate: callable from a batch [batch_size, C, H, W], or less if memory does not suffice, to a tensor with a row
    per noisy image. images [N, C, H, W] in [0, 1], on the network's device; ids: N stable sample ids. stages: numbers
    of draws n_1 < … < n_K; after each but the last, settled(position, stage, draws) says whether the image needs no
    more. With one stage the images come in order. coming: called with the positions of a batch's images before it is
    evaluated. refuse: called with the rows of every batch once they are on the host, to raise an error about rows that
    evaluate has marked without waiting for the device. precision: in "float32" noise is numpy's, made on the host; in
    "bfloat16" it is made on the device (see oodcert.runtime.device_noise), and batches are channels_last. ahead: how many batches the
    device may be given before the rows of one are looked at, so that it need not wait: by default one on a GPU, else
    none. progress: a label for a progress bar.

    The noise of draw i depends on (seed, name, id, i) alone. Batches cross image boundaries and the last one is padded,
    so every pass has the same shape, and few images are under way at once, whatever N. Results are the same bits in
    every order and shard if the network gives an image the same bits at every place of a batch, as nearly all do.
    """
    for key, value in (("sigma", sigma), ("draws", stages[0]), ("batch_size", batch_size)):
        if not value > 0:
            raise InputError(f"{key} = {value}: certification needs a positive {key}.")
    check_precision(precision)
    work, evaluate, under_way = _Work(len(images), stages), with_oom_backoff(evaluate), deque()
    ids, ahead = np.asarray(ids), int(images.is_cuda) if ahead is None else ahead
    with tqdm(total=len(images) * stages[-1], desc=progress, unit="draw", disable=not progress) as bar:
        while work.ready or under_way:
            if not under_way or (len(under_way) <= ahead and work.ready >= batch_size):
                pieces = work.take(batch_size)
                if coming:
                    coming({position for position, _, _ in pieces})
                with torch.inference_mode(False), torch.no_grad():
                    batch = _noisy_batch(pieces, images, ids, name, sigma, seed, batch_size, precision)
                    under_way.append((pieces, *_sent(evaluate(batch))))
                continue
            pieces, rows, arrived = under_way.popleft()
            arrived()
            outputs, start = rows.numpy(), 0
            if refuse:
                refuse(outputs)
            for position, first, last in pieces:
                work.done(position, outputs[start : start + last - first])
                start += last - first
                bar.update(last - first)
                draws = work.stage_draws(position)
                if draws is None:
                    continue
                stage = stages.index(len(draws))
                if stage == len(stages) - 1 or settled(position, stage, draws):
                    bar.total -= stages[-1] - len(draws)
                    work.close(position)
                    yield position, draws
                else:
                    work.extend(position, stages[stage + 1])


class _Work:
    """Which draws are still to be made: those of images under way first, in turn, then those of new images.

    ready: how many can be taken now.
    """

    def __init__(self, count, stages):
        self.ready = count * stages[0]
        self.stages, self.new, self.open = stages, iter(range(count)), deque()
        self.goal, self.count, self.drawn = {}, {}, {}

    def take(self, size):
        """Pieces (position, first, last) of at most `size` draws together; empty when all is done."""
        pieces = []
        while size:
            if not self.open:
                position = next(self.new, None)
                if position is None:
                    break
                self.drawn[position], self.count[position] = [], 0
                self.goal[position] = self.stages[0]
                self.open.append((position, 0, self.stages[0]))
            position, first, last = self.open.popleft()
            taken = min(size, last - first)
            if first + taken < last:
                self.open.appendleft((position, first + taken, last))
            pieces.append((position, first, first + taken))
            size -= taken
            self.ready -= taken
        return pieces

    def done(self, position, rows):
        self.drawn[position].append(rows)
        self.count[position] += len(rows)

    def stage_draws(self, position):
        """All draws of an image at the end of a stage, None before."""
        if self.count[position] < self.goal[position]:
            return None
        draws = np.concatenate(self.drawn[position])
        self.drawn[position] = [draws]
        return draws

    def extend(self, position, goal):
        self.open.append((position, self.goal[position], goal))
        self.ready += goal - self.goal[position]
        self.goal[position] = goal

    def close(self, position):
        del self.drawn[position], self.count[position], self.goal[position]


def _noisy_batch(pieces, images, ids, name, sigma, seed, size, precision):
    shape, device = images.shape[1:], images.device
    index = np.repeat([p for p, _, _ in pieces], [last - first for _, first, last in pieces])
    if precision == "float32":
        parts = [keyed_noise(seed, name, ids[p], first, last - first, shape) for p, first, last in pieces]
        noise = _moved(np.concatenate(parts), device)
    else:
        draws = np.concatenate([np.arange(first, last) for _, first, last in pieces])
        noise = device_noise(seed, name, _moved(ids[index].astype(np.int64), device), _moved(draws, device), shape)
    batch = noise.mul_(sigma).add_(images[_moved(index, device)])
    if len(batch) < size:
        batch = torch.cat([batch, batch[-1:].expand(size - len(batch), *shape)])
    return batch if precision == "float32" else batch.contiguous(memory_format=torch.channels_last)


def _moved(array, device):
    """The array on the device; by way of pinned memory if that is a GPU: nobody waits for what it still does."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _sent(outputs):
    """(rows on the host, what waits until they are there) of a tensor on a device that may still compute it."""
    rows = outputs.to("cpu", non_blocking=True)
    if outputs.is_cuda:
        return rows, torch.cuda.current_stream(outputs.device).record_event().synchronize
    return rows, lambda: None


@contextmanager
def shared_denoising(networks):
    """Within it, networks behind one denoiser, given one and the same batch one after another, denoise it once.

    Raises InputError where one of them has changed the shared images in place. Not for inference mode.
    """
    denoised = [part for network in networks for part in network.modules() if isinstance(part, DenoisedNetwork)]
    latest = {}  # (denoiser, sigma): the last batch, its result, and that result's version

    def once(denoiser):
        def denoise(noisy, sigma):
            batch, result, version = latest.get((denoiser, sigma), (None, None, None))
            if batch is not noisy:
                result = denoiser(noisy, sigma)
                latest[denoiser, sigma] = noisy, result, result._version
            elif result._version != version:
                raise InputError(IN_PLACE)
            return result

        return denoise

    with ExitStack() as stack:
        for part in dict.fromkeys(denoised):
            stack.enter_context(part.denoising_by(once(part.denoiser)))
        yield
