"""Stages that run CLIPs with random weights: training steps, a CUDA graph of the text encoder, and bank generation."""

import contextlib
import io
from collections.abc import Iterator
from functools import partial

import torch

from fdbpl.backbones import load_backbone
from fdbpl.pipelines import dali_installed
from fdbpl.prompts import PromptLearner, encode_prompt_sets
from tools import measure_generation
from tools.benchmark.memory import PeakMemory
from tools.benchmark.steps import DEPTHS, NEGATIVE, POSITIVE, TrainerStep, decoder
from tools.benchmark.timing import summary
from tools.gpu_check.setup import Setup, attempt

SETTINGS = {"FDBPL": "FDBPL", "CoOp": "COOP", "MaPLe": "MAPLE"}  # section of a method's settings


def steps(setup: Setup) -> list[dict]:
    """Measure the time and the peak memory of a training step of each method, number of classes and precision."""
    return [
        {"method": method, "classes": classes, "precision": precision,
         **attempt(partial(_step, setup, method, classes, precision))}
        for method in setup.sizes.methods
        for classes in setup.sizes.classes
        for precision in setup.sizes.precisions
    ]  # fmt: skip


def _step(setup: Setup, method: str, classes: int, precision: str) -> dict:
    torch.cuda.empty_cache()
    sizes, inputs = setup.sizes, setup.inputs
    values: dict = {f"TRAINER__{section}__PREC": precision for section in SETTINGS.values()}
    values |= dict.fromkeys(DEPTHS["MaPLe"], sizes.depth) | {"TEACHER__PREC": "fp16"}

    def build(trainer: str):
        return inputs.build_trainer(
            inputs.config(trainer, sizes.student, sizes.teacher, classes, sizes.batch, **values)
        )

    trainer = build(method)
    if method.endswith("_KDPL"):
        step = TrainerStep(trainer, decoder(inputs, build("FDBPL"), trainer.student.backbone.image_size))
    else:
        step = TrainerStep(trainer)
    step.step()  # allocates buffers that later steps reuse
    with PeakMemory("cuda") as peak:
        step.step()
        torch.cuda.synchronize()
    return {"ms": setup.milliseconds(step.step), "peak MiB": peak.mib}


def graph(setup: Setup) -> list[dict]:
    """Measure forward and backward passes of two prompt spaces, eagerly and as a CUDA graph."""
    return [
        {"classes": setup.sizes.classes[0], "precision": precision, **attempt(partial(_graph, setup, precision))}
        for precision in ("fp32", "fp16")
    ]


def _graph(setup: Setup, precision: str) -> dict:
    model = load_backbone(f"random:{setup.sizes.student}", "cuda", precision).model
    names = setup.inputs.names[: setup.sizes.classes[0]]
    spaces = [PromptLearner(model, names, 4, words).to("cuda") for words in (POSITIVE, NEGATIVE)]
    parameters = [parameter for space in spaces for parameter in space.parameters()]

    def work() -> None:
        for parameter in parameters:
            parameter.grad = None  # a captured backward pass has to write the gradients, not add to them
        features = encode_prompt_sets(model, *(space() for space in spaces))
        sum(part.square().mean() for part in features).backward()

    eager = setup.milliseconds(work)
    expected = torch.cat([parameter.grad.flatten() for parameter in parameters])
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        work()
    replayed = setup.milliseconds(captured.replay)
    found = torch.cat([parameter.grad.flatten() for parameter in parameters])
    deviation = ((found - expected).abs().max() / expected.abs().max()).item()
    return {"eager ms": eager, "graph ms": replayed, "largest relative deviation of gradients": deviation}


def generation(setup: Setup) -> list[dict]:
    """Measure the rate of the teacher alone and of bank generation with each pipeline and precision."""
    return [
        {"precision": name, "pipeline": pipeline, **attempt(partial(_generation, setup, name, pipeline))}
        for name in ("fp32", "TF32", "fp16", "bf16")
        for pipeline in ("torchvision", *["dali"] * dali_installed())
    ]


def _generation(setup: Setup, name: str, pipeline: str) -> dict:
    sizes, inputs = setup.sizes, setup.inputs
    teacher = load_backbone(f"random:{sizes.teacher}", "cuda", "fp32" if name == "TF32" else name)
    images = inputs.paths[: sizes.generated]
    with _tf32(name == "TF32"), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        rates = measure_generation.measure(
            inputs.root, images, teacher, sizes.per_image, sizes.teacher_batch, min(2, sizes.rounds), pipeline
        )
    return {f"{what}, regions/s": summary(values) for what, values in rates.items()}


@contextlib.contextmanager
def _tf32(enabled: bool) -> Iterator[None]:
    """Return a context in which float32 products and convolutions use TF32, or do not."""
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = enabled
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value
