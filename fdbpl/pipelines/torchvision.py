"""Reference pipeline, which decodes with Pillow, once for consecutive requests of the same image."""

from collections import deque
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fdbpl.crops import pixel_boxes
from fdbpl.io.image_reading import STORED, Decoding, UnreadableImage, read_image
from fdbpl.io.threads import decode_pool, thread_count
from fdbpl.pipelines.requests import RegionRequests, undecodable
from fdbpl.pipelines.resize import resize_region


class TorchvisionPipeline:
    """Pipeline that decodes in threads, ahead of the consumer and in the order of the requests.

    Args:
        root: folder that the paths are relative to. size: side of the regions in pixels.
        device: device of the regions; a GPU with its index. workers: decoding threads.
        decoding: as for `read_image`.
    """

    decoder = "cpu"

    def __init__(
        self,
        root: Path,
        size: int,
        batch_size: int,
        device: str | torch.device = "cpu",
        workers: int = 0,
        decoding: Decoding = STORED,
    ):
        self.root, self.size, self.batch_size, self.device = Path(root), size, batch_size, torch.device(device)
        self.workers, self.decoding = thread_count(workers), decoding

    def __call__(self, requests: RegionRequests) -> Iterator[tuple[Tensor, Tensor]]:
        batches = [
            np.arange(start, min(start + self.batch_size, len(requests)))
            for start in range(0, len(requests), self.batch_size)
        ]
        with decode_pool(self.workers) as pool:
            pending: deque = deque()
            for index in batches:
                pending.append(
                    (index, [pool.submit(self._regions, requests, rows) for rows in _same_image(requests, index)])
                )
                if len(pending) > 2:  # bounds memory to two batches ahead
                    yield self._collect(*pending.popleft())
            while pending:
                yield self._collect(*pending.popleft())

    def _collect(self, index: np.ndarray, parts: list) -> tuple[Tensor, Tensor]:
        images = torch.cat([part.result() for part in parts])
        return torch.from_numpy(index), images.to(self.device, non_blocking=True)

    def _regions(self, requests: RegionRequests, rows: list[int]) -> Tensor:
        """Decode the regions `rows`, all of one image: uint8 [r, 3, size, size]."""
        file = self.root / requests.paths[requests.path_index[rows[0]]]
        try:
            image = read_image(file, decoding=self.decoding)
        except UnreadableImage as error:
            raise undecodable(file, error) from error
        pixels = torch.from_numpy(np.asarray(image).copy())
        boxes = pixel_boxes(requests.boxes[rows], (image.height, image.width)).tolist()
        return torch.stack(
            [
                resize_region(pixels[top : top + height, left : left + width], self.size, bool(flip))
                for (top, left, height, width), flip in zip(boxes, requests.flips[rows], strict=True)
            ]
        )


def _same_image(requests: RegionRequests, index: np.ndarray) -> list[list[int]]:
    """Group consecutive rows of the same image."""
    return [list(rows) for _, rows in groupby(index.tolist(), key=lambda row: requests.path_index[row])]
