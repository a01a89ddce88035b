"""Random regions of an image: RandomResizedCrop's distribution, drawn from seed, path, number and size alone."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np

TRIES = 10  # as torchvision's RandomResizedCrop; then the central fallback
AT_ONCE = 65_536  # images whose random numbers are in memory at a time


@dataclass(frozen=True)
class Regions:
    """R regions of one image.

    Attributes:
        boxes: float32 [R, 4]: top, left, height, width as fractions of the image.
        flips: bool [R]: mirrored left to right.
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
    """Regions number `first` to `first + count - 1` of the image at `path` (relative to the data root).

    Args:
        image_hw: height and width of the image in pixels.
        scale: range of the region's share of the area.
        ratio: range of width / height.
        flip: probability of mirroring.

    The draw of one region does not depend on the others, on order or on what else a bank holds.
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


def pixel_boxes(boxes: np.ndarray, image_hw: np.ndarray | tuple[int, int]) -> np.ndarray:
    """Fractions [R, 4] -> pixels int64 [R, 4]; exact for the sizes that regions were drawn for.

    Args:
        image_hw: (height, width), or one pair a row [R, 2].
    """
    sides = np.tile(np.asarray(image_hw, np.float64).reshape(-1, 2), (1, 2))
    return np.rint(boxes.astype(np.float64) * sides).astype(np.int64)


def _random_box(
    rng: np.random.Generator, height: float, width: float, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    for _ in range(TRIES):
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
