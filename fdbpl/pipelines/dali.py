"""Pipeline that decodes with NVIDIA DALI, in one of two modes that `build_pipeline` selects.

`roi`: a sample is a region; only the part of the JPEG that the region needs is decoded.
`decode-once`: a sample is an image; it is decoded completely and all its regions are cropped from it.
Files that DALI decodes differently from Pillow or not at all (CMYK, GIF, damaged ones), and images that have to be
turned or composed over white, are decoded by Pillow and passed on as bitmaps.

DALI decodes on the CPU, which needs no driver, and the resized regions are copied to the device. It can also decode on
the GPU ("mixed", nvJPEG), which has not been measured yet. DALI's next run overwrites its output buffer; decoded images
are therefore copied first, on torch's stream, which that run waits for.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from io import BytesIO
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fdbpl.crops import pixel_boxes
from fdbpl.errors import SystemFailure, out_of_memory
from fdbpl.io.image_reading import STORED, Decoding, UnreadableImage, read_header, read_image
from fdbpl.io.threads import decode_pool, thread_count
from fdbpl.pipelines.requests import RegionRequests, image_sizes, undecodable
from fdbpl.pipelines.resize import resize_region


class DaliPipeline:
    """Pipeline that passes file contents and crop windows to DALI's threads. Axis order is HW.

    Args:
        root: folder that the paths are relative to. size: side of the regions in pixels.
        device: device of the regions; a GPU with its index.
        workers: decoding threads.
        decode: "roi" or "decode-once".
        dali_device: device on which images are decoded, "cpu" or "gpu".
        decoding: as for `read_image`.

    Raises:
        SystemFailure: DALI does not start.
    """

    def __init__(
        self,
        root: Path,
        size: int,
        batch_size: int,
        device: str | torch.device = "cpu",
        workers: int = 0,
        decode: str = "roi",
        dali_device: str = "cpu",
        decoding: Decoding = STORED,
    ):
        self.root, self.size, self.batch_size, self.device = Path(root), size, batch_size, torch.device(device)
        self.on_gpu = dali_device == "gpu"
        self.decoder = "nvjpeg" if self.on_gpu else "cpu"
        self.whole = decode == "decode-once"
        self.workers, self.decoding = thread_count(workers), decoding
        self._same_as_pillow: dict[str, bool] = {}
        self._sizes: dict[str, tuple[int, int]] = {}  # kept for the calls of later epochs
        self._threads, self._prefetcher = decode_pool(self.workers), decode_pool(1)
        self._pipeline = self._build()

    def __call__(self, requests: RegionRequests) -> Iterator[tuple[Tensor, Tensor]]:
        new = [path for path in requests.paths if path not in self._sizes]
        self._sizes |= image_sizes(self.root, new, self.decoding)
        pending: deque = deque()
        for batch in _batches(requests, self.batch_size if self.whole else 1, self.batch_size):
            pending.append((batch, self._prefetcher.submit(self._start, requests, batch)))
            if len(pending) > 2:  # bounds memory to two batches ahead
                yield self._collect(*pending.popleft())
        while pending:
            yield self._collect(*pending.popleft())

    def _start(self, requests: RegionRequests, batch: list[list[int]]) -> list[Future]:
        """Decode a batch and start the resizing: a future of [r, 3, size, size] for each sample."""
        return [
            self._threads.submit(self._resize, crops, requests.flips[rows])
            for crops, rows in zip(self._decode(requests, batch), batch, strict=True)
        ]

    def _resize(self, crops: list[Tensor], flips: np.ndarray) -> Tensor:
        return torch.stack(
            [resize_region(crop, self.size, bool(flip)) for crop, flip in zip(crops, flips, strict=True)]
        )

    def _decode(self, requests: RegionRequests, batch: list[list[int]]) -> list[list[Tensor]]:
        """Decode the pixels, uint8 [h, w, 3], of every region of every sample."""
        paths = [requests.paths[requests.path_index[rows[0]]] for rows in batch]
        boxes = [pixel_boxes(requests.boxes[rows], self._sizes[path]) for rows, path in zip(batch, paths, strict=True)]
        try:
            (decoded,) = self._run(paths, boxes)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            self._pipeline = self._build()  # DALI pipelines do not recover from errors
            self._same_as_pillow.update(
                dict.fromkeys(paths, False)
            )  # a file is damaged: Pillow decodes it or reports the reason
            (decoded,) = self._retry(paths, boxes)
        pixels = [self._copy(decoded[sample]) for sample in range(len(batch))]
        if not self.whole:
            return [[image] for image in pixels]
        return [
            [image[top : top + height, left : left + width] for top, left, height, width in of_image.tolist()]
            for image, of_image in zip(pixels, boxes, strict=True)
        ]

    def _file(self, path: str) -> np.ndarray:
        """Read a file, or decode it with Pillow to a BMP: uint8 [n]."""
        data = np.fromfile(self.root / path, np.uint8)
        if path not in self._same_as_pillow:
            self._same_as_pillow[path] = _decodes_like_pillow(data, self.decoding)
        if self._same_as_pillow[path]:
            return data
        try:
            read_image(BytesIO(data), decoding=self.decoding).save(bitmap := BytesIO(), "BMP")
        except UnreadableImage as error:
            raise undecodable(self.root / path, error) from error
        return np.frombuffer(bitmap.getvalue(), np.uint8)

    def _run(self, paths: list[str], boxes: list[np.ndarray]) -> list:
        self._pipeline.feed_input("jpegs", list(self._threads.map(self._file, paths)))
        if not self.whole:
            for name, part in (("anchor", slice(0, 2)), ("shape", slice(2, 4))):
                self._pipeline.feed_input(name, [box[0, part].astype(np.int32) for box in boxes])
        return self._pipeline.run()

    def _retry(self, paths: list[str], boxes: list[np.ndarray]) -> list:
        try:
            return self._run(paths, boxes)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            self._pipeline = self._build()
            raise SystemFailure(
                f"DALI cannot decode {', '.join(sorted(set(paths))[:5])} ... ({str(error).splitlines()[0][:99]}). "
                "Set REGIONS.PIPELINE torchvision."
            ) from error

    def _copy(self, image) -> Tensor:
        """Copy a DALI tensor [h, w, 3] to a torch tensor."""
        if not self.on_gpu:
            return torch.from_numpy(np.array(image))
        from nvidia.dali.plugin.pytorch import feed_ndarray

        copy = torch.empty(image.shape(), dtype=torch.uint8, device=self.device)
        return feed_ndarray(image, copy, cuda_stream=torch.cuda.current_stream(self.device))

    def _collect(self, batch: list[list[int]], started: Future) -> tuple[Tensor, Tensor]:
        rows = torch.tensor([row for rows in batch for row in rows])
        images = torch.cat([part.result() for part in started.result()])
        return rows, images.to(self.device, non_blocking=True)

    def _build(self):
        try:
            return self._dali_pipeline()
        except (ImportError, OSError, RuntimeError) as error:
            if out_of_memory(error):
                raise
            place, remedy = ("the CPU", "") if not self.on_gpu else (str(self.device), "REGIONS.DALI_DEVICE cpu or ")
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise SystemFailure(
                f"DALI cannot decode on {place} ({reason}). Set {remedy}REGIONS.PIPELINE torchvision."
            ) from error

    def _dali_pipeline(self):
        from nvidia.dali import fn, pipeline_def, types

        @pipeline_def(
            batch_size=self.batch_size,
            num_threads=self.workers,
            device_id=self.device.index if self.on_gpu else None,
            prefetch_queue_depth=1,
            exec_dynamic=False,
        )
        def regions():
            jpegs = fn.external_source(name="jpegs", dtype=types.UINT8, ndim=1)
            options = {
                "output_type": types.RGB,
                "adjust_orientation": False,
                "device": "mixed" if self.on_gpu else "cpu",
            }
            if self.on_gpu:
                options["jpeg_fancy_upsampling"] = True  # interpolates chroma as libjpeg and Pillow do
            if self.whole:
                return fn.decoders.image(jpegs, **options)
            window = [fn.external_source(name=name, dtype=types.INT32, ndim=1) for name in ("anchor", "shape")]
            return fn.decoders.image_slice(jpegs, *window, axis_names="HW", **options)

        pipeline = regions()
        pipeline.build()
        return pipeline


def _decodes_like_pillow(data: np.ndarray, decoding: Decoding) -> bool:
    """Return whether DALI decodes the same pixels as Pillow: grey and RGB JPEGs and PNGs of up to 8 bits, as stored."""
    head = data[:26].tobytes()
    png = head.startswith(b"\x89PNG") and len(head) == 26
    if not png and not head.startswith(b"\xff\xd8"):
        return False
    try:
        header = read_header(BytesIO(data), decoding)
    except UnreadableImage:
        return not png or head[24] <= 8  # broken: DALI reports it
    return header.stored and (head[24] <= 8 if png else header.mode in ("RGB", "L"))


def _batches(requests: RegionRequests, per_sample: int, batch_size: int) -> Iterator[list[list[int]]]:
    """Divide rows into batches of samples; a sample is up to `per_sample` consecutive rows of one image."""
    for start in range(0, len(requests), batch_size):
        rows = range(start, min(start + batch_size, len(requests)))
        images = [list(same) for _, same in groupby(rows, key=lambda row: requests.path_index[row])]
        yield [same[first : first + per_sample] for same in images for first in range(0, len(same), per_sample)]
