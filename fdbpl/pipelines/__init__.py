"""Regions of image files -> uint8 tensors, by DALI or by torchvision, behind one interface."""

import importlib.util
from pathlib import Path

import torch

from fdbpl.errors import UserError
from fdbpl.pipelines.requests import RegionPipeline, RegionRequests, image_sizes
from fdbpl.pipelines.threads import ahead

__all__ = ["RegionPipeline", "RegionRequests", "ahead", "build_pipeline", "dali_installed", "image_sizes"]

BACKENDS = ("auto", "dali", "torchvision")
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
) -> RegionPipeline:
    """The pipeline called `backend`; "auto" takes DALI where it is installed.

    Args:
        root: folder that image paths start from.
        size: side of the regions in pixels.
        device: where the tensors appear, "cpu" or "cuda".
        workers: decoding threads; 0 = as many as there are processors, 8 at most.
        regions_per_image: how many regions of an image are asked for in a row; decides how DALI decodes
            (docs/PIPELINES.md).

    Raises:
        UserError: unknown backend, DALI asked for and absent, a device that is not there.
    """
    if backend not in BACKENDS:
        raise UserError(f"expected REGIONS.PIPELINE of {', '.join(BACKENDS)}, found {backend!r}; choose one")
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"expected a GPU for the device {device}, found none; use cpu")
    installed = dali_installed()
    if backend == "dali" and not installed:
        raise UserError(
            "expected NVIDIA DALI for REGIONS.PIPELINE dali, found none; run: pip install nvidia-dali-cuda130, "
            "or set REGIONS.PIPELINE torchvision"
        )
    if backend == "torchvision" or not installed:
        from fdbpl.pipelines.torchvision import TorchvisionPipeline

        return TorchvisionPipeline(Path(root), size, batch_size, device, workers)
    from fdbpl.pipelines.dali import DaliPipeline

    decode = "decode-once" if regions_per_image >= DECODE_ONCE else "roi"
    return DaliPipeline(Path(root), size, batch_size, device, workers, decode)
