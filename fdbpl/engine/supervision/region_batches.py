"""Batches of stored regions."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from fdbpl.crops import sample_regions

CropRegions = Callable[[Tensor, Tensor], Iterator[tuple[Tensor, Tensor]]]


class RegionBatches:
    """Batches of an epoch: passes over the training images, each with one region of every image.

    Pass p of a training is `sample_regions` with p as its epoch, so 30 epochs of 10 passes read the same regions in the
    same order as 300 epochs of one. As in Dassl's training loader, a last partial batch is dropped unless it is the
    only one.

    Args:
        images: paths of the training images, relative to the data root.
        per_image: stored regions of each image.
        per_epoch: regions of each image in an epoch.
        steps: batches of an epoch, independent of the number of images; 0 = determined by `per_epoch`.
        crop: (image numbers, region numbers) of an epoch -> (rows, pixels) of each batch; None = no pixels are needed.

    Yields:
        dicts of image_index, region and index (int64 [b]), impath (list of b paths) and, with `crop`, img.
    """

    def __init__(
        self, images: list[str], per_image: int, batch_size: int, seed: int,
        per_epoch: int = 1, steps: int = 0, crop: CropRegions | None = None,
    ):  # fmt: skip
        self.images, self.per_image, self.seed = images, per_image, max(seed, 0)
        self.passes = math.ceil(steps * batch_size / len(images)) if steps else per_epoch
        self.batch_size = min(batch_size, len(images) * self.passes)
        self.steps = steps or len(images) * self.passes // self.batch_size
        self.crop = crop
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, that the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[dict]:
        first = self.epoch * self.passes
        passes = [
            sample_regions(len(self.images), self.per_image, number, self.seed)
            for number in range(first, first + self.passes)
        ]
        order, region = (
            torch.from_numpy(np.concatenate(numbers)[: len(self) * self.batch_size])
            for numbers in zip(*passes, strict=True)
        )
        for rows, pixels in self._batches(order, region):
            batch = {"image_index": order[rows], "region": region[rows], "index": order[rows]}
            batch["impath"] = [self.images[number] for number in order[rows].tolist()]
            yield batch if pixels is None else {**batch, "img": pixels}

    def _batches(self, order: Tensor, region: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
        if self.crop is not None:
            yield from self.crop(order, region)
            return
        for rows in torch.arange(len(order)).split(self.batch_size):
            yield rows, None
