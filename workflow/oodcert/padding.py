"""Batches of one fixed size."""


def filled(images, size):
    """How many images pass a network where the last batch is filled up to the size of all."""
    return -(-images // size) * size
