"""Which region of which image is seen when: a pure function of seed and epoch, so that a resumed run sees the same."""

import numpy as np

AT_ONCE = 65_536  # images whose random numbers are in memory at a time


def epoch_regions(images: int, per_image: int, epoch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Every image once, in random order, each with one of its regions.

    Returns:
        order int64 [N]: image indices; region int64 [N]: region number of each. An image's regions come in a random
        order of its own; none returns before all were used.
    """
    order = np.random.default_rng([max(seed, 0), 0, epoch]).permutation(images)
    ranks = np.random.default_rng([max(seed, 0), 1, epoch // per_image])
    region = np.empty(images, np.int64)
    for start in range(0, images, AT_ONCE):
        part = ranks.random((min(AT_ONCE, images - start), per_image))
        region[start : start + AT_ONCE] = part.argsort(axis=1, kind="stable")[:, epoch % per_image]
    return order, region[order]
