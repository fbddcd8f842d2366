"""Draws of a network under keyed Gaussian noise, in batches of one fixed shape across images."""

from collections import deque
from contextlib import ExitStack, contextmanager
from math import prod

import numpy as np
import torch
from tqdm import tqdm

from oodcert.detector import DenoisedNetwork
from oodcert.errors import InputError
from oodcert.memory import fitting
from oodcert.rng import normal_draws

IN_PLACE = (
    "A network changes its input in place, so that those after it would see other images: certify it on its own, or "
    "let it work on a copy."
)
BATCH_SIZE, BATCH_VALUES = 500, 8_000_000  # images, and pixel values, of a batch unless another size is asked for


def default_batch_size(shape):
    """How many images of shape (C, H, W) pass through the network together: 500, or fewer if they are large."""
    return min(BATCH_SIZE, max(1, BATCH_VALUES // prod(shape)))


def sample(evaluate, images, ids, name, *, sigma, stages, seed, batch_size, settled=None, progress=None):
    """Yields (position, draws [n_k, ...]) of each image once it is finished: evaluate(x + δ_i), δ_i ~ N(0, sigma² I).

    evaluate: callable from a batch [batch_size, C, H, W], or less if memory does not suffice, to a tensor with a row
    per noisy image. images [N, C, H, W] in
    [0, 1], on the network's device; ids: N stable sample ids. stages: numbers of draws n_1 < … < n_K; after each but
    the last, settled(position, stage, draws) says whether the image needs no more. With one stage the images come in
    order. progress: a label for a progress bar.

    The noise of draw i depends on (seed, name, id, i) alone. Batches cross image boundaries and the last one is padded,
    so every pass has the same shape, and few images are under way at once, whatever N. Results are the same bits in
    every order and shard if the network gives an image the same bits at every place of a batch, as nearly all do.
    """
    for key, value in (("sigma", sigma), ("draws", stages[0]), ("batch_size", batch_size)):
        if not value > 0:
            raise InputError(f"{key} = {value}: certification needs a positive {key}.")
    work, evaluate = _Work(len(images), stages), fitting(evaluate)
    with tqdm(total=len(images) * stages[-1], desc=progress, unit="draw", disable=not progress) as bar:
        while pieces := work.take(batch_size):
            with torch.inference_mode(False), torch.no_grad():
                outputs = evaluate(_noisy_batch(pieces, images, ids, name, sigma, seed, batch_size)).cpu().numpy()
            start = 0
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
    """Which draws are still to be made: those of images under way first, in turn, then those of new images."""

    def __init__(self, count, stages):
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
        self.goal[position] = goal

    def close(self, position):
        del self.drawn[position], self.count[position], self.goal[position]


def _noisy_batch(pieces, images, ids, name, sigma, seed, size):
    shape, device = images.shape[1:], images.device
    noise = np.concatenate([normal_draws(seed, name, ids[p], first, last - first, shape) for p, first, last in pieces])
    index = torch.from_numpy(np.repeat([p for p, _, _ in pieces], [last - first for _, first, last in pieces]))
    batch = images[index.to(device)] + sigma * torch.from_numpy(noise).to(device)
    return torch.cat([batch, batch[-1:].expand(size - len(batch), *shape)])


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
