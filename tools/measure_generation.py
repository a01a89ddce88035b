"""`python -m tools.measure_generation ROOT`: regions per second of generation and of its teacher alone.

Generation includes hashing and checking of files, sampling, decoding, teacher and writing; the teacher alone encodes
batches in memory. Prints medians of interleaved rounds. Random weights (`random:ViT-B/32`) are as fast as trained ones.
"""

import os
import platform
import statistics
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path

import torch

from fdbpl.backbones import Backbone, load_backbone
from fdbpl.devices import choose_device
from fdbpl.errors import cli_error_handler
from fdbpl.regions.__main__ import list_images
from fdbpl.regions.generation import generate
from fdbpl.regions.metadata import BankMetadata


def main() -> None:
    parser = ArgumentParser(prog="python -m tools.measure_generation", description=__doc__)
    parser.add_argument("root", type=Path, help="folder of photographs")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--per-image", type=int, default=50)
    parser.add_argument("--teacher", default="random:ViT-B/32", help="name of the teacher")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pipeline", default="auto", help="auto, dali or torchvision")
    parser.add_argument("--precision", default="fp32", help="precision of the teacher: fp32, fp16 (GPU only) or bf16")
    parser.add_argument("--device", default="", help="cpu or cuda (default: cuda if available)")
    arguments = parser.parse_args()
    with cli_error_handler():
        images = list_images(arguments.root, arguments.root)
        images = images[:: max(1, len(images) // arguments.images)][: arguments.images]
        device = choose_device(arguments.device)
        teacher = load_backbone(arguments.teacher, device, arguments.precision)
        rates = measure(
            arguments.root, images, teacher, arguments.per_image, arguments.batch, arguments.rounds, arguments.pipeline
        )
        print(
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, {device}, "
            f"{arguments.precision}: {len(images)} images, {arguments.per_image} regions each, {arguments.teacher}, "
            f"{arguments.pipeline}"
        )
        for name, values in rates.items():
            print(f"  {name:<14} {statistics.median(values):8.1f} regions/s ({min(values):.1f} to {max(values):.1f})")
        print(f"  share          {100 * share(rates):8.0f} % (median over the rounds)")


def measure(
    root: Path, images: list[str], teacher: Backbone, per_image: int, batch: int, rounds: int, pipeline: str = "auto"
) -> dict[str, list[float]]:
    """Return regions per second of "teacher alone" and "generation" in each round, after a warm-up."""
    identity = BankMetadata(
        "measured", teacher.name, teacher.sha256, teacher.logit_scale, teacher.image_size, tuple(teacher.mean),
        tuple(teacher.std), (0.08, 0.936), (3 / 4, 4 / 3), 0.5, 1,
    )  # fmt: skip
    total, size = len(images) * per_image, teacher.image_size
    pixels = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, device=teacher.device)

    def alone() -> None:
        for start in range(0, total, batch):
            teacher.encode_image(pixels[: total - start]).cpu().half()

    def generation(these: list[str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            generate(
                root, these, folder, identity, lambda: teacher, per_image, pipeline=pipeline,
                device=str(teacher.device), batch_size=batch,
            )  # fmt: skip

    generation(images[:1])  # warm-up
    rates: dict[str, list[float]] = {"teacher alone": [], "generation": []}
    for _ in range(rounds):
        for name, run in (("teacher alone", alone), ("generation", lambda: generation(images))):
            begin = time.perf_counter()
            run()
            rates[name].append(total / (time.perf_counter() - begin))
    return rates


def share(rates: dict[str, list[float]]) -> float:
    """Return the rate of generation relative to the teacher alone, median over the rounds."""
    pairs = zip(rates["generation"], rates["teacher alone"], strict=True)
    return statistics.median(made / seen for made, seen in pairs)


if __name__ == "__main__":
    main()
