"""Batches of stored regions: each training image once an epoch, with one of its regions."""

from collections.abc import Callable, Iterator

import torch

from fdbpl.crops import sample_regions


class RegionBatches:
    """One pass over the training images an epoch, each with one of its regions, in the order of `sample_regions`.

    As in Dassl's training loader a last partial batch is left out, unless it is the only one.

    Yields:
        dicts of image_index, region and index (int64 [b]) and impath (list of b paths relative to the data root).
    """

    def __init__(self, images: list[str], per_image: int, batch_size: int, seed: int):
        self.images, self.per_image, self.seed = images, per_image, max(seed, 0)
        self.batch_size = min(batch_size, len(images))
        self.epoch = 0
        self.pixels: Callable[..., Iterator[tuple]] | None = None  # set where regions have to be cut from the files

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def __iter__(self) -> Iterator[dict]:
        order, region = sample_regions(len(self.images), self.per_image, self.epoch, self.seed)
        used = len(self) * self.batch_size
        order, region = torch.from_numpy(order[:used]), torch.from_numpy(region[:used])
        for rows, images in self._parts(order, region):
            batch = {"image_index": order[rows], "region": region[rows], "index": order[rows]}
            batch["impath"] = [self.images[number] for number in order[rows].tolist()]
            yield batch if images is None else {**batch, "img": images}

    def _parts(self, order: torch.Tensor, region: torch.Tensor) -> Iterator[tuple]:
        if self.pixels is not None:
            yield from self.pixels(order, region)
            return
        for rows in torch.arange(len(order)).split(self.batch_size):
            yield rows, None
