"""Split of a class's images into training, validation and test that is stable when images are added or removed."""

import hashlib
import math
from collections.abc import Sequence

PARTS = ("train", "val", "test")


def hashed_split(paths: Sequence[str], shares: Sequence[float]) -> dict[str, str]:
    """Return {path: part} of one class's images.

    The paths are put in the order of their hashes and cut at two places, so a image more or less moves at most one
    other over each of the cuts. At least one image is trained on and one tested on.

    Args:
        paths: two or more.
        shares: of train, val and test; their sum is 1.
    """
    ordered = sorted(paths, key=lambda path: hashlib.sha256(path.encode()).digest())
    first = min(max(_nearest(len(paths) * shares[0]), 1), len(paths) - 1)
    second = min(max(_nearest(len(paths) * (shares[0] + shares[1])), first), len(paths) - 1)
    return {path: PARTS[(number >= first) + (number >= second)] for number, path in enumerate(ordered)}


def _nearest(number: float) -> int:
    """Halves go up, whatever 0.7 is in binary; never two steps where `number` makes less than one."""
    return math.floor(round(number, 6) + 0.5)
