"""`python -m fdbpl.regions.measure`: opening a large bank and looking batches up in it, in milliseconds and MiB.

The bank is made of random numbers for the purpose and deleted afterwards: by default 8 million regions of 160,000
images in 8,000 files, 2.2 GB.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from fdbpl.errors import one_sentence_errors
from fdbpl.regions import BankIdentity, RegionBank, RegionLookup
from fdbpl.regions.generate import REGIONS_PER_SHARD
from fdbpl.regions.shard import Shard

STUDENT = ("student", "0" * 64)
SIZE = (375, 500)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fdbpl.regions.measure", description=__doc__)
    parser.add_argument("--images", type=int, default=160_000)
    parser.add_argument("--per-image", type=int, default=50, help="regions of each")
    parser.add_argument("--width", type=int, default=64, help="numbers of an embedding, teacher's and student's")
    parser.add_argument("--batch", type=int, default=32, help="regions a lookup")
    parser.add_argument("--lookups", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="where the bank is made; by default the system's temporary folder")
    arguments = parser.parse_args()
    with one_sentence_errors(), tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors")
        images = [f"imagenet/images/train/n{n // 1300:08d}/{n:08d}.JPEG" for n in range(arguments.images)]
        make(Path(folder), images, arguments.per_image, arguments.width)
        measure(Path(folder), images, arguments)


def make(folder: Path, images: list[str], per_image: int, width: int) -> None:
    """A bank of random content in the files that generation would write."""
    mean = (0.5, 0.5, 0.5)
    identity = BankIdentity(
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


def measure(folder: Path, images: list[str], arguments: argparse.Namespace) -> None:
    """Print what opening and looking up take."""
    before, begin = resident(), time.perf_counter()
    lookup = RegionLookup(folder, images, arguments.per_image, student=STUDENT)
    opened = time.perf_counter() - begin
    rng = np.random.default_rng(0)
    warm_up = arguments.lookups // 10
    milliseconds, memory = [], []
    for _ in range(warm_up + arguments.lookups):
        image = rng.integers(arguments.images, size=arguments.batch)
        region = rng.integers(arguments.per_image, size=arguments.batch)
        memory.append(resident())
        begin = time.perf_counter()
        lookup.embeddings(image, region)
        lookup.student_features(image, region)
        milliseconds.append(1000 * (time.perf_counter() - begin))
    files, regions = len(list(folder.glob("regions-*"))), arguments.images * arguments.per_image
    print(f"{regions:,} regions of {arguments.images:,} images, width {arguments.width}; two times {files:,} files")
    print(f"open: {opened:.1f} s, {memory[0] - before:.0f} MiB")
    cuts = statistics.quantiles(milliseconds[warm_up:], n=20)
    print(
        f"embedding and student feature of {arguments.batch} random regions: median {cuts[9]:.2f} ms, 95 % within "
        f"{cuts[18]:.2f} ms ({arguments.lookups} lookups behind {warm_up} to warm up)"
    )
    print(
        f"resident memory: {memory[warm_up]:.0f} MiB before these, {memory[-1]:.0f} MiB behind, "
        f"{max(memory[warm_up:]):.0f} MiB at most"
    )


def resident() -> float:
    """Resident memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
