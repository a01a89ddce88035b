"""`python -m tools.measure_generation ROOT`: regions per second of generation and of its teacher alone, by precision.

Generation includes hashing and checking of files, sampling, decoding, teacher and writing; the teacher alone encodes
batches in memory. Prints medians of interleaved rounds, and with several precisions ratios of the same round, which
other load of the machine affects little. Random weights (`random:ViT-B/32`) are as fast as trained ones.
"""

import os
import platform
import statistics
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from fdbpl.backbones import Backbone, load_backbone
from fdbpl.devices import choose_device, cpu_bf16
from fdbpl.errors import cli_error_handler
from fdbpl.regions.__main__ import list_images
from fdbpl.regions.generation import generate
from fdbpl.regions.metadata import BankMetadata
from fdbpl.regions.verify import Sample


def main() -> None:
    parser = ArgumentParser(prog="python -m tools.measure_generation", description=__doc__)
    parser.add_argument("root", type=Path, help="folder of photographs")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--per-image", type=int, default=50)
    parser.add_argument("--teacher", default="random:ViT-B/32", help="name of the teacher")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pipeline", default="auto", help="auto, dali or torchvision")
    parser.add_argument("--precision", nargs="+", default=["fp32"], help="of the teacher: fp32, fp16 (GPU only), bf16")
    parser.add_argument("--device", default="", help="cpu or cuda (default: cuda if available)")
    arguments = parser.parse_args()
    with cli_error_handler():
        images = list_images(arguments.root, arguments.root)
        images = images[:: max(1, len(images) // arguments.images)][: arguments.images]
        device = choose_device(arguments.device)
        print(
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, bfloat16 instructions: "
            f"{cpu_bf16() or 'none'}; {device}: {len(images)} images, {arguments.per_image} regions each, "
            f"{arguments.teacher}, {arguments.pipeline}"
        )
        works = {}
        for precision in arguments.precision:
            teacher = load_backbone(arguments.teacher, device, precision)
            parts = works_of(arguments.root, images, teacher, arguments.per_image, arguments.batch, arguments.pipeline)
            works |= {f"{precision} {name}": work for name, work in parts.items()}
        rates, results = timed(works, len(images) * arguments.per_image, arguments.rounds)
        for name, values in rates.items():
            print(f"  {name:<19} {statistics.median(values):8.1f} regions/s ({min(values):.1f} to {max(values):.1f})")
        for precision in arguments.precision:
            shares = {name: rates[f"{precision} {name}"] for name in ("generation", "teacher alone")}
            print(f"  {precision} share          {100 * share(shares):8.0f} % (median over the rounds)")
        first, *others = arguments.precision
        for other in others:
            alone, whole = (
                statistics.median(rates[f"{other} {name}"]) / statistics.median(rates[f"{first} {name}"])
                for name in ("teacher alone", "generation")
            )
            deviation = (results[f"{other} generation"] - results[f"{first} generation"]).abs().max()
            print(
                f"  {other} / {first}: teacher {alone:.2f} times, generation {whole:.2f} times as fast "
                f"(ratios of medians); largest deviation of an embedding {deviation:.1e} "
                f"(tolerance of verify {Sample.tolerance:.1e})"
            )


def measure(
    root: Path, images: list[str], teacher: Backbone, per_image: int, batch: int, rounds: int, pipeline: str = "auto"
) -> dict[str, list[float]]:
    """Return regions per second of "teacher alone" and "generation" in each round, after a warm-up."""
    works = works_of(root, images, teacher, per_image, batch, pipeline)
    return timed(works, len(images) * per_image, rounds)[0]


def works_of(
    root: Path, images: list[str], teacher: Backbone, per_image: int, batch: int, pipeline: str = "auto"
) -> dict[str, Callable[[], Tensor]]:
    """Return the functions "teacher alone" and "generation", warmed up; both return embeddings of all regions."""
    identity = BankMetadata(
        "measured", teacher.name, teacher.sha256, teacher.logit_scale, teacher.image_size, tuple(teacher.mean),
        tuple(teacher.std), (0.08, 0.936), (3 / 4, 4 / 3), 0.5, 1,
    )  # fmt: skip
    total, size = len(images) * per_image, teacher.image_size
    pixels = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, device=teacher.device)

    def alone() -> Tensor:
        parts = [teacher.encode_image(pixels[: total - start]).cpu().half() for start in range(0, total, batch)]
        return torch.cat(parts)

    def generation(these: list[str] = images) -> Tensor:
        with tempfile.TemporaryDirectory() as folder:
            generate(
                root, these, folder, identity, lambda: teacher, per_image, pipeline=pipeline,
                device=str(teacher.device), batch_size=batch,
            )  # fmt: skip
            shards = sorted(Path(folder).glob("regions-*.safetensors"))
            return torch.cat([load_file(shard)["embeddings"] for shard in shards])

    generation(images[:1])
    return {"teacher alone": alone, "generation": generation}


def timed(
    works: dict[str, Callable[[], Tensor]], regions: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, Tensor]]:
    """Return regions per second of each function in each round, interleaved, and what it returned in the last one."""
    rates: dict[str, list[float]] = {name: [] for name in works}
    results = {}
    for _ in range(rounds):
        for name, work in works.items():
            begin = time.perf_counter()
            results[name] = work()
            rates[name].append(regions / (time.perf_counter() - begin))
    return rates, results


def share(rates: dict[str, list[float]]) -> float:
    """Return the rate of generation relative to the teacher alone, median over the rounds."""
    pairs = zip(rates["generation"], rates["teacher alone"], strict=True)
    return statistics.median(made / seen for made, seen in pairs)


if __name__ == "__main__":
    main()
