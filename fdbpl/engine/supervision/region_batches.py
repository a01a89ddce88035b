"""Batches of stored regions."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fdbpl.crops import sample_regions

CropRegions = Callable[[Tensor, Tensor], Iterator[tuple[Tensor, Tensor]]]


class RegionBatches:
    """One pass per epoch over the training images, with one region of each, in the order of `sample_regions`.

    As in Dassl's training loader, a last partial batch is dropped unless it is the only one.

    Args:
        images: paths of the training images, relative to the data root.
        per_image: stored regions of each image.
        crop: (image numbers, region numbers) of an epoch -> (rows, pixels) of each batch; None = no pixels are needed.

    Yields:
        dicts of image_index, region and index (int64 [b]), impath (list of b paths) and, with `crop`, img.
    """

    def __init__(self, images: list[str], per_image: int, batch_size: int, seed: int, crop: CropRegions | None = None):
        self.images, self.per_image, self.seed = images, per_image, max(seed, 0)
        self.batch_size = min(batch_size, len(images))
        self.crop = crop
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, that the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def __iter__(self) -> Iterator[dict]:
        order, region = sample_regions(len(self.images), self.per_image, self.epoch, self.seed)
        used = len(self) * self.batch_size
        order, region = torch.from_numpy(order[:used]), torch.from_numpy(region[:used])
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
