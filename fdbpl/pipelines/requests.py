"""What is asked of a pipeline, and what it needs to know of the image files beforehand."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from fdbpl.errors import UserError


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
    """Called with requests, yields (index int64 [b], images uint8 [b, 3, size, size]); every request exactly once."""

    def __call__(self, requests: RegionRequests) -> Iterator[tuple[Tensor, Tensor]]: ...


def image_sizes(root: Path, paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Height and width of each file as it is stored (EXIF orientation ignored), from its header alone.

    Raises:
        UserError: names the files that are no images.
    """
    paths = list(paths)
    sizes = dict(zip(paths, _in_threads(lambda path: _size(root / path), paths), strict=True))
    bad = [(path, size) for path, size in sizes.items() if isinstance(size, str)]
    if bad:
        raise UserError(_sentence(root, bad, len(paths)))
    return sizes


def refuse_unreadable(root: Path, paths: Iterable[str]) -> None:
    """Decode every file once; raise a UserError that names those that cannot be decoded."""
    paths = list(paths)
    reasons = zip(paths, _in_threads(lambda path: _reason(root / path), paths), strict=True)
    bad = [(path, reason) for path, reason in reasons if reason]
    if bad:
        raise UserError(_sentence(root, bad, len(paths)))


def _in_threads(function, items: list) -> list:
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
        return list(pool.map(function, items))


def _size(file: Path) -> tuple[int, int] | str:
    try:
        with Image.open(file) as image:
            return image.height, image.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error) or type(error).__name__


def _reason(file: Path) -> str:
    try:
        with Image.open(file) as image:
            image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error) or type(error).__name__
    return ""


def _sentence(root: Path, bad: list[tuple[str, str]], total: int) -> str:
    shown = "; ".join(f"{path}: {reason}" for path, reason in bad[:10]) + (" ..." if len(bad) > 10 else "")
    return (
        f"expected {total} readable images below {root}, found {len(bad)} that are not ({shown}); "
        "replace these files or take them out of the split"
    )
