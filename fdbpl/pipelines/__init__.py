"""Pipelines that decode regions of image files to uint8 tensors, with DALI or torchvision behind one interface."""

import importlib.util
from pathlib import Path

from fdbpl.devices import with_index
from fdbpl.errors import SystemFailure, UserError
from fdbpl.io.image_reading import STORED, Decoding
from fdbpl.io.threads import prefetch
from fdbpl.pipelines.dali import DaliPipeline
from fdbpl.pipelines.requests import RegionPipeline, RegionRequests, image_sizes
from fdbpl.pipelines.torchvision import TorchvisionPipeline

__all__ = ["RegionPipeline", "RegionRequests", "prefetch", "build_pipeline", "dali_installed", "image_sizes"]

BACKENDS = ("auto", "dali", "torchvision")
DALI_DEVICES = ("cpu", "gpu")
DECODE_ONCE = 4  # with so many consecutive regions of an image DALI decodes the whole image once


def dali_installed() -> bool:
    """Return whether NVIDIA DALI is installed, without the seconds that its import takes."""
    return importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None


def build_pipeline(
    backend: str,
    root: str | Path,
    size: int,
    batch_size: int,
    device: str = "cpu",
    workers: int = 0,
    regions_per_image: int = 1,
    dali_device: str = "cpu",
    decoding: Decoding = STORED,
) -> RegionPipeline:
    """Build the pipeline `backend`; "auto" selects DALI if it is installed and works, torchvision otherwise.

    Args:
        root: folder that image paths are relative to.
        size: side of the regions in pixels.
        device: device of the tensors, "cpu" or "cuda"; without an index the current GPU of the calling thread.
        workers: decoding threads; 0 = one per processor, at most 8.
        regions_per_image: number of consecutive requests for the same image; decides how DALI decodes
            (docs/PIPELINES.md).
        dali_device: device on which DALI decodes, "cpu" or "gpu"; the latter has not been measured.
        decoding: whether images are turned by their EXIF orientation and composed over white.

    Raises:
        UserError: a name is unknown, DALI is requested and not installed, or a device is not available.
        SystemFailure: DALI is requested and does not start.
    """
    if backend not in BACKENDS:
        raise UserError(f"Unknown REGIONS.PIPELINE {backend!r}: choose one of {', '.join(BACKENDS)}.")
    if dali_device not in DALI_DEVICES:
        raise UserError(f"Unknown REGIONS.DALI_DEVICE {dali_device!r:.60}: choose cpu or gpu.")
    place = with_index(device)
    if dali_device == "gpu" and place.type != "cuda":
        raise UserError("REGIONS.DALI_DEVICE gpu needs a GPU, and this run uses a CPU: set it to cpu.")
    installed = dali_installed()
    if backend == "dali" and not installed:
        raise UserError(
            "REGIONS.PIPELINE dali needs NVIDIA DALI, which is not installed. Run: pip install nvidia-dali-cuda130 "
            "(with CUDA 12: nvidia-dali-cuda120), or set REGIONS.PIPELINE torchvision."
        )
    if backend != "torchvision" and installed:
        decode = "decode-once" if regions_per_image >= DECODE_ONCE else "roi"
        try:
            return DaliPipeline(Path(root), size, batch_size, place, workers, decode, dali_device, decoding)
        except SystemFailure as error:
            if backend == "dali":
                raise
            print(f"Falling back to torchvision: {error}")
    return TorchvisionPipeline(Path(root), size, batch_size, place, workers, decoding)
