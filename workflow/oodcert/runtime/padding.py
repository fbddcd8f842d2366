"""Batches of one fixed size."""


def images_per_batch(batch_size, draws, images):
    """How many images share a batch that holds all noise draws of each: no more than a set of `images`."""
    return min(images, max(1, batch_size // draws))


def padded_count(images, size):
    """How many images pass a network where the last batch is filled up to the size of all."""
    return -(-images // size) * size
