"""Regions by NVIDIA DALI: two ways to decode, chosen by `build_pipeline`.

`roi`: one sample is one region; only the part of the JPEG that the region needs is decoded.
`decode-once`: one sample is one image; it is decoded whole and all its regions are cut out of it.
Files that DALI reads otherwise than Pillow, or not at all (CMYK, GIF, damaged ones ...), reach it as Pillow's pixels.

DALI decodes on the CPU, which needs no driver, and the finished regions are uploaded. It can also decode on the GPU
("mixed", nvJPEG): that has not been measured yet. DALI's next run overwrites its output buffer, so that decoded images
are copied in an order that both libraries keep: on torch's stream, which DALI's next run waits for.
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
from fdbpl.io.image_reading import UnreadableImage, image_mode, read_image
from fdbpl.io.threads import decode_pool, thread_count
from fdbpl.pipelines.requests import RegionRequests, image_sizes, undecodable
from fdbpl.pipelines.resize import resize_region


class DaliPipeline:
    """DALI's threads decode; the host feeds bytes and windows. Axis order HW throughout; EXIF orientation is ignored.

    Args:
        root: folder that the paths start from. size: side of the regions in pixels.
        device: where the regions appear; a GPU is named with its index.
        workers: decoding threads.
        decode: "roi" or "decode-once".
        dali_device: where images are decoded, "cpu" or "gpu".

    Raises:
        SystemFailure: DALI cannot be started.
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
    ):
        self.root, self.size, self.batch_size, self.device = Path(root), size, batch_size, torch.device(device)
        self.on_gpu = dali_device == "gpu"
        self.decoder = "nvjpeg" if self.on_gpu else "cpu"
        self.whole = decode == "decode-once"
        self.workers = thread_count(workers)
        self._alike: dict[str, bool] = {}
        self._sizes: dict[str, tuple[int, int]] = {}  # known since an earlier call: every epoch calls anew
        self._threads, self._ahead = decode_pool(self.workers), decode_pool(1)
        self._pipeline = self._build()

    def __call__(self, requests: RegionRequests) -> Iterator[tuple[Tensor, Tensor]]:
        self._sizes |= image_sizes(self.root, (path for path in requests.paths if path not in self._sizes))
        ahead: deque = deque()
        for batch in _batches(requests, self.batch_size if self.whole else 1, self.batch_size):
            ahead.append((batch, self._ahead.submit(self._start, requests, batch)))
            if len(ahead) > 2:  # DALI decodes two batches ahead of what is resized
                yield self._collected(*ahead.popleft())
        while ahead:
            yield self._collected(*ahead.popleft())

    def _start(self, requests: RegionRequests, batch: list[list[int]]) -> list[Future]:
        """Decode a batch and have its regions resized: a future of [r, 3, size, size] for each sample."""
        return [
            self._threads.submit(self._resized, cuts, requests.flips[rows])
            for cuts, rows in zip(self._decode(requests, batch), batch, strict=True)
        ]

    def _resized(self, cuts: list[Tensor], flips: np.ndarray) -> Tensor:
        return torch.stack([resize_region(cut, self.size, bool(flip)) for cut, flip in zip(cuts, flips, strict=True)])

    def _decode(self, requests: RegionRequests, batch: list[list[int]]) -> list[list[Tensor]]:
        """The cut-out bytes [h, w, 3] of every region of every sample."""
        paths = [requests.paths[requests.path_index[rows[0]]] for rows in batch]
        boxes = [pixel_boxes(requests.boxes[rows], self._sizes[path]) for rows, path in zip(batch, paths, strict=True)]
        try:
            (decoded,) = self._run(paths, boxes)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            self._pipeline = self._build()  # a failed DALI pipeline stays failed
            self._alike.update(dict.fromkeys(paths, False))  # one of them is damaged: Pillow reads it, or says why not
            (decoded,) = self._again(paths, boxes)
        pixels = [self._copied(decoded[sample]) for sample in range(len(batch))]
        if not self.whole:
            return [[image] for image in pixels]
        return [
            [image[top : top + height, left : left + width] for top, left, height, width in of_image.tolist()]
            for image, of_image in zip(pixels, boxes, strict=True)
        ]

    def _file(self, path: str) -> np.ndarray:
        """The bytes of a file, or Pillow's pixels of it as a BMP: uint8 [n]."""
        data = np.fromfile(self.root / path, np.uint8)
        if path not in self._alike:
            self._alike[path] = _read_alike(data)
        if self._alike[path]:
            return data
        try:
            read_image(BytesIO(data)).save(bitmap := BytesIO(), "BMP")
        except UnreadableImage as error:
            raise undecodable(self.root / path, error) from error
        return np.frombuffer(bitmap.getvalue(), np.uint8)

    def _run(self, paths: list[str], boxes: list[np.ndarray]) -> list:
        self._pipeline.feed_input("jpegs", [self._file(path) for path in paths])
        if not self.whole:
            for name, part in (("anchor", slice(0, 2)), ("shape", slice(2, 4))):
                self._pipeline.feed_input(name, [box[0, part].astype(np.int32) for box in boxes])
        return self._pipeline.run()

    def _again(self, paths: list[str], boxes: list[np.ndarray]) -> list:
        try:
            return self._run(paths, boxes)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            self._pipeline = self._build()
            raise SystemFailure(
                f"cannot decode {', '.join(sorted(set(paths))[:5])} ... with DALI ({str(error).splitlines()[0][:99]}); "
                "set REGIONS.PIPELINE torchvision"
            ) from error

    def _copied(self, image) -> Tensor:
        """A copy of a DALI tensor [h, w, 3] in memory of torch."""
        if not self.on_gpu:
            return torch.from_numpy(np.array(image))
        from nvidia.dali.plugin.pytorch import feed_ndarray

        copy = torch.empty(image.shape(), dtype=torch.uint8, device=self.device)
        return feed_ndarray(image, copy, cuda_stream=torch.cuda.current_stream(self.device))

    def _collected(self, batch: list[list[int]], started: Future) -> tuple[Tensor, Tensor]:
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
            how = {"output_type": types.RGB, "adjust_orientation": False, "device": "mixed" if self.on_gpu else "cpu"}
            if self.on_gpu:
                how["jpeg_fancy_upsampling"] = True  # chroma as libjpeg interpolates it, and so Pillow
            if self.whole:
                return fn.decoders.image(jpegs, **how)
            window = [fn.external_source(name=name, dtype=types.INT32, ndim=1) for name in ("anchor", "shape")]
            return fn.decoders.image_slice(jpegs, *window, axis_names="HW", **how)

        pipeline = regions()
        pipeline.build()
        return pipeline


def _read_alike(data: np.ndarray) -> bool:
    """Whether DALI and Pillow see the same pixels in a file: grey and RGB JPEGs, PNGs of up to 8 bits."""
    head = data[:26].tobytes()
    if head.startswith(b"\x89PNG") and len(head) == 26:
        return head[24] <= 8
    if not head.startswith(b"\xff\xd8"):
        return False
    try:
        return image_mode(BytesIO(data)) in ("RGB", "L")
    except UnreadableImage:
        return True  # broken: DALI says so


def _batches(requests: RegionRequests, per_sample: int, batch_size: int) -> Iterator[list[list[int]]]:
    """Batches of `batch_size` rows, as samples: up to `per_sample` neighbouring rows of one image each."""
    for start in range(0, len(requests), batch_size):
        rows = range(start, min(start + batch_size, len(requests)))
        images = [list(same) for _, same in groupby(rows, key=lambda row: requests.path_index[row])]
        yield [same[first : first + per_sample] for same in images for first in range(0, len(same), per_sample)]
