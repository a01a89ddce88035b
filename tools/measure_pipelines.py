"""`python -m tools.measure_pipelines ROOT`: regions per second of every image pipeline, medians of interleaved rounds.

The reference is a plain torchvision DataLoader that opens a file for each region. DALI is measured if it is installed.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import hflip, pil_to_tensor, resized_crop

from fdbpl.crops import pixel_boxes, sample_crops
from fdbpl.devices import choose_device, with_index
from fdbpl.errors import cli_error_handler
from fdbpl.pipelines import dali_installed
from fdbpl.pipelines.dali import DaliPipeline
from fdbpl.pipelines.requests import RegionPipeline, RegionRequests, image_sizes
from fdbpl.pipelines.torchvision import TorchvisionPipeline
from tools.scaled_decoding import enlarge, measure_scaled


class PlainRegions(torch.utils.data.Dataset):
    """A plain data set of regions, which opens the image file for each region."""

    def __init__(self, root: Path, requests: RegionRequests, size: int):
        self.root, self.requests, self.size = root, requests, size

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, row: int) -> torch.Tensor:
        image = Image.open(self.root / self.requests.paths[self.requests.path_index[row]]).convert("RGB")
        box = pixel_boxes(self.requests.boxes[row : row + 1], (image.height, image.width))[0].tolist()
        region = resized_crop(image, *box, [self.size, self.size], InterpolationMode.BICUBIC)
        return pil_to_tensor(hflip(region) if self.requests.flips[row] else region)


def main() -> None:
    parser = ArgumentParser(prog="python -m tools.measure_pipelines", description=__doc__)
    parser.add_argument("root", type=Path, help="folder of photographs")
    parser.add_argument("--images", type=int, default=100, help="images with 8 regions; scaled for other numbers")
    parser.add_argument("--regions", type=int, nargs="+", default=[1, 8, 50], help="consecutive regions per image")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="", help="device of the regions (default: cuda if available)")
    parser.add_argument("--enlarge", type=int, metavar="SIDE", help="use 8 images, enlarged to this longer side")
    arguments = parser.parse_args()
    with cli_error_handler(), tempfile.TemporaryDirectory() as folder:
        arguments.device = choose_device(arguments.device)
        gpu = f", {torch.cuda.get_device_name()}" if arguments.device == "cuda" else ""
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors{gpu}, {arguments.root}")
        if not dali_installed():
            print("NVIDIA DALI is not installed and is not measured")
        if arguments.enlarge:
            enlarge(photographs(arguments.root)[:8], Path(folder), arguments.enlarge)
            arguments.root = Path(folder)
            measure_scaled(arguments.root, arguments.size)
        for count in arguments.regions:
            measure(arguments, count)


def photographs(root: Path) -> list[Path]:
    return sorted(file for file in root.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg"))


def measure(arguments: argparse.Namespace, count: int) -> dict[str, list[float]]:
    """Measure every pipeline with `count` consecutive regions per image; return regions per second of each round.

    The number of images is scaled so that a round always has 8 * `arguments.images` regions; images are repeated if
    there are not enough.
    """
    files, wanted = photographs(arguments.root), max(1, arguments.images * 8 // count)
    files = files[:: max(1, len(files) // wanted)][:wanted]
    paths = [str(file.relative_to(arguments.root)) for file in files]
    sizes = image_sizes(arguments.root, paths)
    drawn = [sample_crops(1, path, 0, count, sizes[path], (0.08, 0.936), (3 / 4, 4 / 3), 0.5) for path in paths]
    drawn *= max(1, wanted // len(paths))
    requests = RegionRequests(
        paths,
        np.repeat(np.arange(len(drawn)) % len(paths), count),
        np.concatenate([regions.boxes for regions in drawn]),
        np.concatenate([regions.flips for regions in drawn]),
    )
    plain = torch.utils.data.DataLoader(
        PlainRegions(arguments.root, requests, arguments.size),
        batch_size=arguments.batch,
        num_workers=os.cpu_count() or 1,
        persistent_workers=True,
    )
    device = with_index(arguments.device)
    settings = (arguments.root, arguments.size, arguments.batch, device)
    ours: dict[str, RegionPipeline] = {"torchvision": TorchvisionPipeline(*settings)}
    if dali_installed():
        ours |= {f"dali {way}": DaliPipeline(*settings, decode=way) for way in ("roi", "decode-once")}
        if device.type == "cuda":
            ours |= {
                f"dali {way}, gpu": DaliPipeline(*settings, decode=way, dali_device="gpu")
                for way in ("roi", "decode-once")
            }
    ways: dict[str, Callable[[], Iterable]] = {"plain DataLoader": lambda: (batch.to(device) for batch in plain)}
    ways |= {name: partial(pipeline, requests) for name, pipeline in ours.items()}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(arguments.rounds + 1):
        for name, run in ways.items():
            begin = time.perf_counter()
            for _ in run():
                pass
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:  # the first round is a warm-up
                rates[name].append(len(requests) / (time.perf_counter() - begin))
    side = statistics.median(max(size) for size in sizes.values())
    print(
        f"{count} regions of each of {len(paths)} images ({len(requests)} in all), longer side {side:.0f} px (median), "
        f"to {arguments.size} px"
    )
    for name, values in rates.items():
        print(f"  {name:<18} {statistics.median(values):7.0f} regions/s   ({min(values):.0f} to {max(values):.0f})")
    return rates


if __name__ == "__main__":
    main()
