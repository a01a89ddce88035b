"""What is asked of a pipeline, and what it needs to know of the image files beforehand."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from fdbpl.errors import UserError
from fdbpl.io.image_check import named
from fdbpl.io.image_reading import UnreadableImage, image_size


@dataclass(frozen=True)
class RegionRequests:
    """N regions of image files.

    Attributes:
        paths: image files, relative to the pipeline's root.
        path_index: int64 [N], which of `paths` each region is of.
        boxes: float32 [N, 4]: top, left, height, width as fractions.
        flips: bool [N].
    """

    paths: list[str]
    path_index: np.ndarray
    boxes: np.ndarray
    flips: np.ndarray

    def __len__(self) -> int:
        return len(self.path_index)


class RegionPipeline(Protocol):
    """Called with requests, yields (index int64 [b], images uint8 [b, 3, size, size]); every request exactly once.

    Attributes:
        decoder: what decodes JPEGs, "cpu" (libjpeg; Pillow's pixels) or "nvjpeg" (a GPU; about those).
    """

    decoder: str

    def __call__(self, requests: RegionRequests) -> Iterator[tuple[Tensor, Tensor]]: ...


def image_sizes(root: Path, paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Height and width of each file as it is stored (EXIF orientation ignored), from its header alone.

    Raises:
        UserError: names the files that are no images.
    """
    paths = list(paths)
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
        sizes = dict(zip(paths, pool.map(lambda path: _size(root / path), paths), strict=True))
    bad = {path: size for path, size in sizes.items() if isinstance(size, str)}
    if bad:
        raise UserError(
            f"expected {len(sizes)} images below {root}, found {len(bad)} that are not ({named(bad)}); replace them"
        )
    return {path: size for path, size in sizes.items() if not isinstance(size, str)}


def undecodable(file: Path, error: UnreadableImage) -> UserError:
    """What stops a pipeline: a file that broke after all images were checked."""
    return UserError(
        f"expected an image in {file}, found a file that cannot be decoded ({error}); replace it, or leave it out with "
        "DATASET.SKIP_UNREADABLE True (python -m fdbpl.regions: --skip-unreadable)"
    )


def _size(file: Path) -> tuple[int, int] | str:
    try:
        return image_size(file)
    except UnreadableImage as error:
        return str(error)
