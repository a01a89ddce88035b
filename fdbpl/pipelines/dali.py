"""Regions by NVIDIA DALI, on the CPU without a driver or on a GPU: two ways to decode, chosen by `build_pipeline`.

`roi`: one sample is one region; only the part of the JPEG that the region needs is decoded.
`decode-once`: one sample is one image; it is decoded whole and cut into up to `REGIONS_PER_SAMPLE` regions.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fdbpl.errors import UserError
from fdbpl.pipelines.requests import RegionRequests, image_sizes
from fdbpl.pipelines.resize import resize_region
from fdbpl.regions.boxes import pixel_boxes

REGIONS_PER_SAMPLE = 8


class DaliPipeline:
    """DALI's threads decode; the host feeds bytes and windows. Axis order HW throughout; EXIF orientation is ignored.

    Args:
        root: folder that the paths start from. size: side of the regions in pixels.
        device: "cpu", or "cuda" for mixed decoding.
        workers: decoding threads.
        decode: "roi" or "decode-once".
    """

    def __init__(
        self, root: Path, size: int, batch_size: int, device: str = "cpu", workers: int = 0, decode: str = "roi"
    ):
        self.root, self.size, self.batch_size, self.device = Path(root), size, batch_size, device
        self.slices = REGIONS_PER_SAMPLE if decode == "decode-once" else 1
        self.samples = max(1, batch_size // self.slices)
        self.workers = workers or min(8, os.cpu_count() or 1)
        self._threads, self._ahead = ThreadPoolExecutor(self.workers), ThreadPoolExecutor(1)
        self._pipeline = self._build()

    def __call__(self, requests: RegionRequests) -> Iterator[tuple[Tensor, Tensor]]:
        sizes = image_sizes(self.root, requests.paths)
        samples = list(_samples(requests, self.slices))
        batches = [samples[start : start + self.samples] for start in range(0, len(samples), self.samples)]
        decoded = self._ahead.submit(self._decode, requests, batches[0], sizes) if batches else None
        for number, batch in enumerate(batches):
            cuts = decoded.result()
            if number + 1 < len(batches):  # DALI decodes the next batch while this one is resized
                decoded = self._ahead.submit(self._decode, requests, batches[number + 1], sizes)
            rows = [row for rows in batch for row in rows]
            images = self._threads.map(
                lambda cut, row: resize_region(cut, self.size, bool(requests.flips[row])), cuts, rows
            )
            yield torch.tensor(rows), torch.stack(list(images))

    def _decode(self, requests: RegionRequests, batch: list[list[int]], sizes: dict) -> list[Tensor]:
        """The cut-out bytes [h, w, 3] of every region of a batch."""
        self._feed(requests, batch, sizes)
        outputs = self._run(requests, batch)
        return [_as_torch(outputs[k][sample]) for sample, rows in enumerate(batch) for k in range(len(rows))]

    def _feed(self, requests: RegionRequests, batch: list[list[int]], sizes: dict) -> None:
        """Bytes and windows of a batch; missing slices repeat the last window, and are left out again afterwards."""
        paths = [requests.paths[requests.path_index[rows[0]]] for rows in batch]
        self._pipeline.feed_input("jpegs", [np.fromfile(self.root / path, np.uint8) for path in paths])
        for k in range(self.slices):
            rows = [rows[min(k, len(rows) - 1)] for rows in batch]
            boxes = np.stack([pixel_boxes(requests.boxes[row : row + 1], sizes[path])[0] for row, path in
                              zip(rows, paths, strict=True)]).astype(np.int32)  # fmt: skip
            self._pipeline.feed_input(f"anchor{k}", list(boxes[:, :2]))
            self._pipeline.feed_input(f"shape{k}", list(boxes[:, 2:]))

    def _run(self, requests: RegionRequests, batch: list[list[int]]) -> list:
        try:
            return self._pipeline.run()
        except RuntimeError as error:
            self._pipeline = self._build()  # a failed DALI pipeline stays failed
            files = sorted({requests.paths[requests.path_index[rows[0]]] for rows in batch})
            raise UserError(
                f"expected images that DALI can decode, found one it cannot among {', '.join(files[:5])} ... "
                f"({str(error).splitlines()[0][:120]}); set REGIONS.PIPELINE torchvision or replace the file"
            ) from error

    def _build(self):
        from nvidia.dali import fn, pipeline_def, types

        gpu = torch.device(self.device).type == "cuda"

        @pipeline_def(
            batch_size=self.samples,
            num_threads=self.workers,
            device_id=torch.cuda.current_device() if gpu else None,
            prefetch_queue_depth=1,
            exec_dynamic=False,
        )
        def regions():
            jpegs = fn.external_source(name="jpegs", dtype=types.UINT8, ndim=1)
            windows = [
                [fn.external_source(name=f"{part}{k}", dtype=types.INT32, ndim=1) for part in ("anchor", "shape")]
                for k in range(self.slices)
            ]
            how = {"output_type": types.RGB, "adjust_orientation": False, "device": "mixed" if gpu else "cpu"}
            if self.slices == 1:
                cut = [fn.decoders.image_slice(jpegs, *windows[0], axis_names="HW", **how)]
            else:
                whole = fn.decoders.image(jpegs, **how)
                cut = [fn.slice(whole, *window, axis_names="HW") for window in windows]
            return tuple(cut)

        pipeline = regions()
        pipeline.build()
        return pipeline


def _samples(requests: RegionRequests, slices: int) -> Iterator[list[int]]:
    """Rows of one sample: single regions, or up to `slices` neighbours of one image."""
    for _, rows in groupby(range(len(requests)), key=lambda row: requests.path_index[row]):
        rows = list(rows)
        yield from (rows[start : start + slices] for start in range(0, len(rows), slices))


def _as_torch(region) -> Tensor:
    """A copy of a DALI tensor [h, w, 3]: DALI reuses its memory at the next run."""
    if hasattr(region, "__cuda_array_interface__"):
        return torch.from_dlpack(region).clone()
    return torch.from_numpy(np.array(region))
