"""`python -m tools.measure_lookup`: time and memory of opening a large region bank and of lookups in it.

The bank holds random numbers and is deleted afterwards: by default 8 million regions of 160,000 images in 8,000 files,
2.2 GB.
"""

import os
import platform
import statistics
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from fdbpl.errors import cli_error_handler
from fdbpl.regions.bank import RegionBank
from fdbpl.regions.generation import REGIONS_PER_SHARD
from fdbpl.regions.lookup import RegionLookup
from fdbpl.regions.metadata import BankMetadata
from fdbpl.regions.shard import Shard

STUDENT = ("student", "0" * 64)
SIZE = (375, 500)


def main() -> None:
    parser = ArgumentParser(prog="python -m tools.measure_lookup", description=__doc__)
    parser.add_argument("--images", type=int, default=160_000)
    parser.add_argument("--per-image", type=int, default=50, help="regions per image")
    parser.add_argument("--width", type=int, default=64, help="width of the embeddings of teacher and student")
    parser.add_argument("--batch", type=int, default=32, help="regions per lookup")
    parser.add_argument("--lookups", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="parent folder of the bank (default: a temporary folder)")
    arguments = parser.parse_args()
    with cli_error_handler(), tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors")
        images = image_names(arguments.images)
        make(Path(folder), images, arguments.per_image, arguments.width)
        files, regions = len(list(Path(folder).glob("regions-*"))), arguments.images * arguments.per_image
        print(f"{regions:,} regions of {len(images):,} images, width {arguments.width}; twice {files:,} files")
        print(describe(measure(Path(folder), images, arguments.per_image, arguments.batch, arguments.lookups),
                       arguments.batch))  # fmt: skip


def image_names(count: int) -> list[str]:
    """Return paths like ImageNet's, 1300 per class."""
    return [f"imagenet/images/train/n{number // 1300:08d}/{number:08d}.JPEG" for number in range(count)]


def make(folder: Path, images: list[str], per_image: int, width: int) -> None:
    """Write a bank of random content with the same files as generation."""
    mean = (0.5, 0.5, 0.5)
    identity = BankMetadata(
        "imagenet", "teacher", "0" * 64, 100.0, 224, mean, mean, (0.08, 0.936), (3 / 4, 4 / 3), 0.5, 1
    )
    bank = RegionBank.create(folder, identity, {})
    step = REGIONS_PER_SHARD // per_image
    generator = torch.Generator().manual_seed(0)
    for start in tqdm(range(0, len(images), step), desc="Making a bank", unit="file", disable=None):
        chunk = images[start : start + step]
        rows = len(chunk) * per_image
        shard = Shard(
            bank.folder / bank.shard_name(chunk, 0, per_image), chunk, ["0" * 64] * len(chunk), [SIZE] * len(chunk), 0,
            per_image,
        )  # fmt: skip
        tensors = {
            "boxes": torch.rand(rows, 4, generator=generator),
            "flips": torch.zeros(rows, dtype=torch.bool),
            "embeddings": torch.rand(rows, width, generator=generator).half(),
        }
        bank.write_shard(shard, tensors)
        bank.write_features(shard, STUDENT, torch.rand(rows, width, generator=generator).half())


def measure(folder: Path, images: list[str], per_image: int, batch: int, lookups: int) -> dict:
    """Measure opening a bank and lookups in it, after a warm-up of `lookups` / 10 lookups.

    Returns:
        "open_seconds"; "open_mib", the resident memory added by opening; "milliseconds" of each lookup of `batch`
        random regions; "resident_mib" before the first lookup, after the last one, and the maximum.
    """
    before, begin = resident(), time.perf_counter()
    lookup = RegionLookup(folder, images, per_image, student=STUDENT)
    opened, added = time.perf_counter() - begin, resident() - before
    rng = np.random.default_rng(0)
    milliseconds, memory = [], []
    for number in range(-lookups // 10, lookups):
        image, region = rng.integers(len(images), size=batch), rng.integers(per_image, size=batch)
        resident_now, begin = resident(), time.perf_counter()
        lookup.embeddings(image, region)
        lookup.student_features(image, region)
        if number >= 0:
            milliseconds.append(1000 * (time.perf_counter() - begin))
            memory.append(resident_now)
    return {
        "open_seconds": opened,
        "open_mib": added,
        "milliseconds": milliseconds,
        "resident_mib": [memory[0], resident(), max(memory)],
    }


def describe(found: dict, batch: int) -> str:
    """Format the results of `measure` in three lines."""
    cuts, (before, after, most) = statistics.quantiles(found["milliseconds"], n=20), found["resident_mib"]
    return (
        f"open: {found['open_seconds']:.1f} s, {found['open_mib']:.0f} MiB\n"
        f"embedding and student feature of {batch} random regions: median {cuts[9]:.2f} ms, 95 % within "
        f"{cuts[18]:.2f} ms ({len(found['milliseconds'])} lookups after a warm-up of a tenth)\n"
        f"resident memory: {before:.0f} MiB before, {after:.0f} MiB after, {most:.0f} MiB at most"
    )


def resident() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
