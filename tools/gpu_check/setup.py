"""Sizes of the check, its inputs, timing, and the record of failures."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from fdbpl.errors import SystemFailure, UserError, one_line
from tools.benchmark.synthetic_inputs import SyntheticInputs
from tools.benchmark.timing import summary

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Sizes:
    """Sizes of all stages.

    Attributes:
        classes: numbers of classes of the training steps; the CUDA graph is measured with the first.
        batch: images of a training step; also regions that the pipelines decode at once.
        generated, per_image: images and regions of each in a bank generation; `teacher_batch` regions at once.
        decoded: images with 8 regions in a round of the decoding rates; `regions` lists the regions of an image.
        rounds, seconds: a measurement has at most `rounds` repetitions, and ends after `seconds` if it has three.
        busy: side of the matrices whose products keep the GPU busy.
    """

    student: str = "ViT-B/16"
    teacher: str = "ViT-L/14"
    methods: tuple[str, ...] = ("FDBPL", "CoOp_KDPL", "FDBPL_MaPLe")
    precisions: tuple[str, ...] = ("fp32", "fp16", "amp", "bf16")
    classes: tuple[int, ...] = (100, 1000)
    depth: int = 9
    batch: int = 32
    generated: int = 20
    per_image: int = 50
    teacher_batch: int = 256
    decoded: int = 100
    regions: tuple[int, ...] = (1, 50)
    pixels: int = 224
    rounds: int = 15
    seconds: float = 2.0
    busy: int = 8192


FULL = Sizes()
TINY = Sizes(
    student="tiny", teacher="tiny teacher", classes=(5, 10), depth=2, batch=4, generated=2, per_image=4,
    teacher_batch=4, decoded=2, regions=(1, 8), pixels=32, rounds=1, busy=64,
)  # fmt: skip


class Setup:
    """What the stages share: sizes, folder, and synthetic inputs, which are drawn when first used."""

    def __init__(self, folder: Path, sizes: Sizes):
        self.folder, self.sizes = folder, sizes

    @cached_property
    def inputs(self) -> SyntheticInputs:
        images = max(self.sizes.batch, self.sizes.generated)
        return SyntheticInputs(self.folder, images, max(self.sizes.classes), device="cuda")

    def milliseconds(self, run: Callable[[], object]) -> dict:
        """Return the `summary` of the milliseconds of `run`, after two warm-up calls."""
        times: list[float] = []
        for number in range(-2, self.sizes.rounds):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            run()
            torch.cuda.synchronize()
            if number >= 0:
                times.append(1000 * (time.perf_counter() - begin))
            if len(times) >= 3 and sum(times) > 1000 * self.sizes.seconds:
                break
        return summary(times)


def attempt(run: Callable[[], dict]) -> dict:
    """Return the result of `run`, or a dict with the message and the place of its failure."""
    try:
        return run()
    except Exception as error:
        message = str(error) if isinstance(error, UserError | SystemFailure) else f"{type(error).__name__}: {error}"
        frames = traceback.extract_tb(error.__traceback__)
        return {
            "failed": one_line(" ".join(message.split()))[:1000],
            "where": [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-6:]],
        }
