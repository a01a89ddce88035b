"""Decode image files in batches."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fdbpl.io.image_reading import STORED, Decoding, UnreadableImage, read_image
from fdbpl.io.threads import decode_pool, thread_count

PREFETCHED = 2  # batches


class Decoded(NamedTuple):
    """A batch of decoded files.

    Attributes:
        paths: the B readable files.
        images: [B, 3, S, S]; None where B = 0.
        unreadable: (path, reason) of the other files.
    """

    paths: list[str]
    images: Tensor | None
    unreadable: list[tuple[str, str]]


def decoded(
    paths: list[str],
    transform: Callable,
    batch_size: int,
    threads: int = 0,
    side: int = 0,
    decoding: Decoding = STORED,
) -> Iterator[Decoded]:
    """Decode files in order and yield them in batches; only a few batches are in memory at once.

    Args:
        transform: PIL image in RGB -> [3, S, S].
        threads: decoding threads; 0 = one per processor, at most 8.
        side, decoding: as for `read_image`.
    """

    def read(path: str) -> Tensor | str:
        try:
            return transform(read_image(path, side, decoding))
        except UnreadableImage as error:
            return str(error)

    pending: deque = deque()
    with decode_pool(thread_count(threads)) as pool:
        for start in range(0, len(paths), batch_size):
            part = paths[start : start + batch_size]
            pending.append((part, [pool.submit(read, path) for path in part]))
            if len(pending) > PREFETCHED:
                yield _collect(*pending.popleft())
        while pending:
            yield _collect(*pending.popleft())


def _collect(paths: list[str], futures: list) -> Decoded:
    pairs = list(zip(paths, (future.result() for future in futures), strict=True))
    readable = [(path, image) for path, image in pairs if isinstance(image, Tensor)]
    images = torch.stack([image for _, image in readable]) if readable else None
    return Decoded([path for path, _ in readable], images, [pair for pair in pairs if isinstance(pair[1], str)])
