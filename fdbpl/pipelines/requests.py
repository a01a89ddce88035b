"""Requests for regions, the interface of pipelines, and image sizes from file headers."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from fdbpl.errors import UserError
from fdbpl.io.image_check import list_unreadable
from fdbpl.io.image_reading import STORED, Decoding, UnreadableImage, read_header


@dataclass(frozen=True)
class RegionRequests:
    """N requested regions of image files.

    Attributes:
        paths: image files, relative to the pipeline's root.
        path_index: int64 [N], index in `paths` of each region.
        boxes: float32 [N, 4]: top, left, height, width as fractions of the image.
        flips: bool [N], True where a region is mirrored.
    """

    paths: list[str]
    path_index: np.ndarray
    boxes: np.ndarray
    flips: np.ndarray

    def __len__(self) -> int:
        return len(self.path_index)


class RegionPipeline(Protocol):
    """Callable that yields (index int64 [b], images uint8 [b, 3, size, size]) for requests, each exactly once.

    Attributes:
        decoder: JPEG decoder, "cpu" (libjpeg, the same pixels as Pillow) or "nvjpeg" (GPU, about the same pixels).
    """

    decoder: str

    def __call__(self, requests: RegionRequests) -> Iterator[tuple[Tensor, Tensor]]: ...


def image_sizes(root: Path, paths: Iterable[str], decoding: Decoding = STORED) -> dict[str, tuple[int, int]]:
    """Read height and width of each image, as `decoding` turns it, from the header of its file.

    Raises:
        UserError: names the files that are not images.
    """
    paths = list(paths)
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
        sizes = dict(zip(paths, pool.map(lambda path: _size(root / path, decoding), paths), strict=True))
    bad = {path: size for path, size in sizes.items() if isinstance(size, str)}
    if bad:
        found = list_unreadable(bad)
        raise UserError(f"{len(bad)} of {len(sizes)} images in {root} cannot be read ({found}). Replace them")
    return {path: size for path, size in sizes.items() if not isinstance(size, str)}


def undecodable(file: Path, error: UnreadableImage) -> UserError:
    """Return the error for a file that cannot be decoded although all images were checked before."""
    return UserError(
        f"Cannot decode the image {file} ({error}). Replace it, or leave it out with DATASET.SKIP_UNREADABLE True "
        "(python -m fdbpl.regions: --skip-unreadable)."
    )


def _size(file: Path, decoding: Decoding) -> tuple[int, int] | str:
    try:
        return read_header(file, decoding)[:2]
    except UnreadableImage as error:
        return str(error)
