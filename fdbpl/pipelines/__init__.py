"""Regions of image files -> uint8 tensors, by DALI or by torchvision, behind one interface."""

import importlib.util
from pathlib import Path

from fdbpl.devices import with_index
from fdbpl.errors import SystemFailure, UserError
from fdbpl.io.threads import prefetch
from fdbpl.pipelines.requests import RegionPipeline, RegionRequests, image_sizes

__all__ = ["RegionPipeline", "RegionRequests", "prefetch", "build_pipeline", "dali_installed", "image_sizes"]

BACKENDS = ("auto", "dali", "torchvision")
DALI_DEVICES = ("cpu", "gpu")
DECODE_ONCE = 4  # regions of an image in a row from which on it is decoded once for all of them


def dali_installed() -> bool:
    """Whether NVIDIA DALI can be found; it is not imported, which takes seconds."""
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
) -> RegionPipeline:
    """The pipeline called `backend`; "auto" takes DALI where it is installed and works, else torchvision.

    Args:
        root: folder that image paths start from.
        size: side of the regions in pixels.
        device: where the tensors appear, "cpu" or "cuda"; without an index the GPU of the calling thread.
        workers: decoding threads; 0 = one for each processor, at most 8.
        regions_per_image: how many regions of an image are asked for in a row; decides how DALI decodes
            (docs/PIPELINES.md).
        dali_device: where DALI decodes, "cpu" or "gpu"; the latter has not been measured.

    Raises:
        UserError: an unknown name, DALI asked for and absent, a device that is not there.
        SystemFailure: DALI asked for, and it cannot be started.
    """
    if backend not in BACKENDS:
        raise UserError(f"expected REGIONS.PIPELINE of {', '.join(BACKENDS)}, found {backend!r}; choose one")
    if dali_device not in DALI_DEVICES:
        raise UserError(f"Unknown REGIONS.DALI_DEVICE {dali_device!r:.60}: choose cpu or gpu.")
    place = with_index(device)
    if dali_device == "gpu" and place.type != "cuda":
        raise UserError("REGIONS.DALI_DEVICE gpu needs a GPU, and this run uses a CPU: set it to cpu.")
    installed = dali_installed()
    if backend == "dali" and not installed:
        raise UserError(
            "expected NVIDIA DALI for REGIONS.PIPELINE dali, found none; run: pip install nvidia-dali-cuda130, "
            "or set REGIONS.PIPELINE torchvision"
        )
    if backend != "torchvision" and installed:
        from fdbpl.pipelines.dali import DaliPipeline

        decode = "decode-once" if regions_per_image >= DECODE_ONCE else "roi"
        try:
            return DaliPipeline(Path(root), size, batch_size, place, workers, decode, dali_device)
        except SystemFailure as error:
            if backend == "dali":
                raise
            print(f"torchvision decodes the images: {error}")
    from fdbpl.pipelines.torchvision import TorchvisionPipeline

    return TorchvisionPipeline(Path(root), size, batch_size, place, workers)
