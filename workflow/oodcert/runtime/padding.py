"""Batches of one fixed size."""


def images_per_batch(batch_size: int, draws: int, images: int) -> int:
    """How many images share a batch that holds all noise draws of each.

    Args:
        batch_size: How many noisy images fit in a batch.
        draws: Noise draws per image.
        images: How many images there are.

    Returns:
        At least 1, and no more than `images`.
    """
    return min(images, max(1, batch_size // draws))


def padded_count(images: int, size: int) -> int:
    """How many images pass a network if the last batch is filled up to the size of the others.

    Args:
        images: How many images there are.
        size: Of a batch.

    Returns:
        The next multiple of size.
    """
    return -(-images // size) * size
