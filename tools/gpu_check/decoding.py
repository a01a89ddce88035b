"""Stages of the image pipelines: pixels of the GPU's resize, DALI's decoding on the GPU, and decoding rates."""

import contextlib
import io
from argparse import Namespace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fdbpl.crops import pixel_boxes, sample_crops
from fdbpl.errors import SystemFailure
from fdbpl.pipelines import RegionRequests, dali_installed
from fdbpl.pipelines.dali import DaliPipeline
from fdbpl.pipelines.resize import resize_region
from fdbpl.pipelines.torchvision import TorchvisionPipeline
from tools import measure_pipelines
from tools.benchmark.synthetic_inputs import FOLDER
from tools.benchmark.timing import summary
from tools.gpu_check.setup import Setup, attempt

GREYS = range(0, 240, 4)
DALI_BATCH = 8
PRODUCTS = 60  # matrix products after each batch
RESIZE_LIMIT = 2  # as `resize_region` documents
WAYS = ("roi", "decode-once")


def resize(setup: Setup) -> list[dict]:
    """Compare regions resized on the GPU with those of Pillow and of torch's kernel for CPUs."""
    size, found = setup.sizes.pixels, {"Pillow": [], "the CPU": []}
    for path in setup.inputs.paths[:8]:
        image = Image.open(setup.inputs.root / path).convert("RGB")
        pixels = torch.from_numpy(np.array(image))
        shape = image.height, image.width
        boxes = sample_crops(1, path, 0, 8, shape, (0.08, 0.936), (3 / 4, 4 / 3), 0.5).boxes
        for top, left, height, width in pixel_boxes(boxes, shape).tolist():
            region = pixels[top : top + height, left : left + width]
            resized = resize_region(region.to("cuda"), size, False).cpu()
            by_pillow = image.crop((left, top, left + width, top + height)).resize(
                (size, size), Image.Resampling.BICUBIC
            )
            expected = torch.from_numpy(np.array(by_pillow)).permute(2, 0, 1)
            found["Pillow"].append(_differences(resized, expected))
            found["the CPU"].append(_differences(resized, resize_region(region, size, False)))
    rows = [_row(f"resize on the GPU, against {name}", torch.cat(parts)) for name, parts in found.items()]
    if rows[1]["largest"] > RESIZE_LIMIT:
        rows[1]["failed"] = f"differs by more than {RESIZE_LIMIT}"
    return rows


def _differences(one: Tensor, other: Tensor) -> Tensor:
    return (one.int() - other.int()).abs().flatten().float()


def _row(what: str, differences: Tensor) -> dict:
    return {"pixels": what, "largest": int(differences.max()), "mean": differences.mean().item()}


def dali(setup: Setup) -> list[dict]:
    """Compare images that DALI decodes on a busy GPU with those of Pillow.

    DALI's next run overwrites its output. While the GPU is busy, a copy that the next run did not wait for would hold
    the pixels of a later image. Each image has a single grey level, which all decoders agree on.
    """
    if not dali_installed():
        raise SystemFailure("NVIDIA DALI is not installed")
    folder = setup.folder / "grey"
    folder.mkdir(parents=True, exist_ok=True)
    for grey in GREYS:
        Image.fromarray(np.full((375, 500, 3), grey, np.uint8)).save(folder / f"{grey:03}.jpg", quality=95)
    greys = sorted(file.name for file in folder.iterdir())
    rows = [{"pixels": f"grey images, busy GPU, {way}", **attempt(partial(_on_a_busy_gpu, setup, folder, greys, way))}
            for way in WAYS]  # fmt: skip
    return [*rows, {"pixels": "nvJPEG, against Pillow", **attempt(partial(_nvjpeg, setup))}]


def _on_a_busy_gpu(setup: Setup, folder: Path, paths: list[str], way: str) -> dict:
    size, requests = setup.sizes.pixels, _whole_images(paths)
    expected = next(iter(TorchvisionPipeline(folder, size, len(paths))(requests)))[1]
    matrix = torch.randn(setup.sizes.busy, setup.sizes.busy, device="cuda").half()
    decoded = []
    for rows, images in DaliPipeline(folder, size, DALI_BATCH, "cuda:0", decode=way, dali_device="gpu")(requests):
        decoded.append((rows, images))
        for _ in range(PRODUCTS):
            matrix @ matrix
    largest = torch.cat([(images.cpu().int() - expected[rows].int()).abs().amax((1, 2, 3)) for rows, images in decoded])
    wrong = int((largest > 1).sum())
    failed = {"failed": f"{wrong} of {len(paths)} images have the pixels of another one"} if wrong else {}
    return {"largest": int(largest.max()), "mean": largest.float().mean().item(), **failed}


def _nvjpeg(setup: Setup) -> dict:
    root, size = setup.inputs.root, setup.sizes.pixels
    requests = _whole_images(setup.inputs.paths[: setup.sizes.batch])
    _, expected = next(iter(TorchvisionPipeline(root, size, len(requests))(requests)))
    _, images = next(iter(DaliPipeline(root, size, len(requests), "cuda:0", dali_device="gpu")(requests)))
    return {key: value for key, value in _row("", _differences(images.cpu(), expected)).items() if key != "pixels"}


def _whole_images(paths: list[str]) -> RegionRequests:
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (len(paths), 1))
    return RegionRequests(paths, np.arange(len(paths)), boxes, np.zeros(len(paths), bool))


def decoding(setup: Setup) -> list[dict]:
    """Measure the decoding rate of every pipeline."""
    sizes, rows = setup.sizes, []
    settings = Namespace(
        root=setup.inputs.root / FOLDER, images=sizes.decoded, size=sizes.pixels, batch=64,
        rounds=min(3, sizes.rounds), device="cuda",
    )  # fmt: skip
    for count in sizes.regions:
        with contextlib.redirect_stdout(io.StringIO()):
            rates = measure_pipelines.measure(settings, count)
        rows += [
            {"regions per image": count, "pipeline": name, "regions/s": summary(values)}
            for name, values in rates.items()
        ]
    return rows
