"""Image files that a user names: found, decoded a batch at a time, the unreadable ones set aside."""

import glob
import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from fdbpl.errors import UserError
from fdbpl.image_reading import UnreadableImage, read_image
from fdbpl.pipelines.threads import decoding_threads, thread_count

SUFFIXES = (*IMG_EXTENSIONS, ".gif")
AHEAD = 2  # batches that are decoded while another is looked at


class Decoded(NamedTuple):
    """A batch of files.

    Attributes:
        paths: the B readable ones.
        images: [B, 3, S, S]; None where B = 0.
        unreadable: (path, reason) of the others.
    """

    paths: list[str]
    images: Tensor | None
    unreadable: list[tuple[str, str]]


def find_images(places: list[str]) -> list[str]:
    """Files below folders (recursively, sorted; hidden ones and others than images are skipped), files, and patterns.

    A file that is named itself is taken whatever its name. Nothing is listed twice.

    Raises:
        UserError: a place is not there, or no image is.
    """
    found: list[str] = []
    for place in places:
        if os.path.isdir(place):
            found += below(place)
        elif os.path.isfile(place):
            found.append(place)
        else:
            matches = sorted(glob.glob(place, recursive=True))
            if not matches:
                raise UserError(f"expected an image, a folder or a pattern, found nothing at {place}; check the path")
            for match in matches:
                found += below(match) if os.path.isdir(match) else [match]
    if not found:
        raise UserError(f"expected images ({', '.join(SUFFIXES)}) in {', '.join(places)}, found none; check the folder")
    return list(dict.fromkeys(found))


def below(folder: str) -> list[str]:
    files = []
    for parent, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        wanted = (name for name in sorted(names) if not name.startswith(".") and name.lower().endswith(SUFFIXES))
        files += [os.path.join(parent, name) for name in wanted]
    return files


def _refuse_folder(error: OSError) -> NoReturn:
    """What is in it would be missing without a word."""
    raise UserError(
        f"expected a folder that can be read at {error.filename}, found none ({error.strerror}); change its "
        "permissions or name the other folders"
    ) from error


def decoded(paths: list[str], transform: Callable, batch_size: int, threads: int = 0) -> Iterator[Decoded]:
    """Every file once, in order, `batch_size` at a time; only a few batches are held at once.

    Args:
        transform: PIL image in RGB -> [3, S, S]. threads: that decode; 0 = one for each processor, 8 at most.
    """

    def read(path: str) -> Tensor | str:
        try:
            return transform(read_image(path))
        except UnreadableImage as error:
            return str(error)

    pending: deque = deque()
    with decoding_threads(thread_count(threads)) as pool:
        for start in range(0, len(paths), batch_size):
            part = paths[start : start + batch_size]
            pending.append((part, [pool.submit(read, path) for path in part]))
            if len(pending) > AHEAD:
                yield _collect(*pending.popleft())
        while pending:
            yield _collect(*pending.popleft())


def _collect(paths: list[str], futures: list) -> Decoded:
    pairs = list(zip(paths, (future.result() for future in futures), strict=True))
    readable = [(path, image) for path, image in pairs if isinstance(image, Tensor)]
    images = torch.stack([image for _, image in readable]) if readable else None
    return Decoded([path for path, _ in readable], images, [pair for pair in pairs if isinstance(pair[1], str)])
