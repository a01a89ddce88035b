"""`python -m fdbpl.regions.measure_generation ROOT`: regions per second of generation and of its teacher alone.

Generation is whole: hashes, check of the files, drawing, decoding, teacher, writing. The teacher alone sees batches
that lie in memory. Both in turn, medians. `random:ViT-B/32` and the like have random weights, which take the same time.
"""

import argparse
import itertools
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch

from fdbpl.backbones import Backbone, load_backbone
from fdbpl.errors import UserError, one_sentence_errors
from fdbpl.regions import BankIdentity, generate
from fdbpl.regions.__main__ import list_images

SIZES = {  # CLIP's arguments; of the text tower, which nothing asks here, one layer
    "random:ViT-B/32": (512, 224, 12, 768, 32, 77, 49408, 512, 8, 1),
    "random:ViT-B/16": (512, 224, 12, 768, 16, 77, 49408, 512, 8, 1),
    "random:ViT-L/14": (768, 224, 24, 1024, 14, 77, 49408, 768, 12, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fdbpl.regions.measure_generation", description=__doc__)
    parser.add_argument("root", type=Path, help="folder of photographs")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--per-image", type=int, default=50)
    parser.add_argument("--teacher", default="random:ViT-B/32", help=f"{', '.join(SIZES)}, or any teacher")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pipeline", default="auto", help="auto, dali or torchvision")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    arguments = parser.parse_args()
    with one_sentence_errors():
        measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    images = list_images(arguments.root, arguments.root)
    images = images[:: max(1, len(images) // arguments.images)][: arguments.images]
    model = teacher(arguments.teacher, arguments.device)
    total = len(images) * arguments.per_image
    identity = BankIdentity(
        "measured", model.name, model.sha256, model.logit_scale, model.image_size, tuple(model.mean), tuple(model.std),
        (0.08, 0.936), (3 / 4, 4 / 3), 0.5, 1,
    )  # fmt: skip
    pixels = torch.randint(0, 256, (arguments.batch, 3, model.image_size, model.image_size), dtype=torch.uint8)
    pixels = pixels.to(arguments.device)

    def alone() -> None:
        for start in range(0, total, arguments.batch):
            model.encode_image(pixels[: total - start]).cpu().half()

    def whole() -> None:
        with tempfile.TemporaryDirectory() as folder:
            generate(
                arguments.root, images, folder, identity, lambda: model, arguments.per_image,
                pipeline=arguments.pipeline, device=arguments.device, batch_size=arguments.batch,
            )  # fmt: skip

    rates: dict[str, list[float]] = {"teacher alone": [], "generation": []}
    for number, (name, run) in itertools.product(range(arguments.rounds + 1), zip(rates, (alone, whole), strict=True)):
        begin = time.perf_counter()
        run()
        if number:  # the first round warms up
            rates[name].append(total / (time.perf_counter() - begin))
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, {arguments.device}: {total} "
        f"regions of {len(images)} images, {arguments.teacher}, pipeline {arguments.pipeline}"
    )
    for name, values in rates.items():
        print(f"  {name:<14} {statistics.median(values):8.1f} regions/s ({min(values):.1f} to {max(values):.1f})")
    share = statistics.median(
        made / seen for made, seen in zip(rates["generation"], rates["teacher alone"], strict=True)
    )
    print(f"  share          {100 * share:8.0f} % (median over the rounds)")


def teacher(name: str, device: str) -> Backbone:
    if not name.startswith("random:"):
        return load_backbone(name, device)
    if name not in SIZES:
        raise UserError(f"expected a random teacher of {', '.join(SIZES)}, found {name!r}; choose one")
    from clip.model import CLIP

    from fdbpl.backbones.openai import wrap

    torch.manual_seed(0)
    model = CLIP(*SIZES[name]).eval().requires_grad_(False)
    return wrap(model, name, "0" * 64, device, torch.float32)


if __name__ == "__main__":
    main()
