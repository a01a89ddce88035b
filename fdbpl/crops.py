"""Random regions (crops) of images, sampled by pure functions.

The crop distribution is that of torchvision's RandomResizedCrop.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np

MAX_ATTEMPTS = 10  # as in torchvision's RandomResizedCrop, before it falls back to a central crop
CHUNK = 65_536  # images whose random numbers are in memory at a time


@dataclass(frozen=True)
class Regions:
    """R regions of one image.

    Attributes:
        boxes: float32 [R, 4]: top, left, height, width as fractions of the image.
        flips: bool [R]: True where the region is mirrored left to right.
    """

    boxes: np.ndarray
    flips: np.ndarray


def sample_crops(
    seed: int,
    path: str,
    first: int,
    count: int,
    image_hw: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    flip: float,
) -> Regions:
    """Sample the regions `first` ... `first + count - 1` of the image at `path` (relative to the data root).

    A region depends on seed, path, its number and the image size only, not on other regions or on the order of calls.

    Args:
        image_hw: height and width of the image in pixels.
        scale: range of the region's area as a fraction of the image's area.
        ratio: range of width / height.
        flip: probability of mirroring.
    """
    height, width = map(float, image_hw)
    boxes, flips = np.empty((count, 4), np.float32), np.empty(count, bool)
    for row in range(count):
        key = hashlib.blake2b(f"{seed}\0{path}\0{first + row}".encode(), digest_size=16).digest()
        rng = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
        boxes[row] = np.array(_random_box(rng, height, width, scale, ratio)) / np.array([height, width, height, width])
        flips[row] = rng.random() < flip
    return Regions(boxes, flips)


def sample_regions(images: int, per_image: int, epoch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample one region of each image for an epoch, as a pure function of seed and epoch.

    Returns:
        order int64 [N]: a permutation of the image indices; region int64 [N]: the region number of each. Every image
        goes through its `per_image` regions in a random order of its own before one of them is used again.
    """
    order = np.random.default_rng([max(seed, 0), 0, epoch]).permutation(images)
    ranks = np.random.default_rng([max(seed, 0), 1, epoch // per_image])
    region = np.empty(images, np.int64)
    for start in range(0, images, CHUNK):
        part = ranks.random((min(CHUNK, images - start), per_image))
        region[start : start + CHUNK] = part.argsort(axis=1, kind="stable")[:, epoch % per_image]
    return order, region[order]


def pixel_boxes(boxes: np.ndarray, image_hw: np.ndarray | tuple[int, int]) -> np.ndarray:
    """Convert fractions [R, 4] to pixels, int64 [R, 4]; exact for the image sizes that the regions were sampled for.

    Args:
        image_hw: (height, width), or one pair for each row, [R, 2].
    """
    sides = np.tile(np.asarray(image_hw, np.float64).reshape(-1, 2), (1, 2))
    return np.rint(boxes.astype(np.float64) * sides).astype(np.int64)


def _random_box(
    rng: np.random.Generator, height: float, width: float, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    for _ in range(MAX_ATTEMPTS):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * rng.random())
        low, high = math.log(ratio[0]), math.log(ratio[1])
        aspect = math.exp(low + (high - low) * rng.random())
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(rng.random() * (height - h + 1))
            left = int(rng.random() * (width - w + 1))
            return top, left, h, w
    aspect, wide, high = width / height, width, height
    if aspect < ratio[0]:
        high = min(height, max(1, round(width / ratio[0])))
    elif aspect > ratio[1]:
        wide = min(width, max(1, round(height * ratio[1])))
    return int((height - high) // 2), int((width - wide) // 2), int(high), int(wide)
