"""Construction and timing of the variants of a training step on the same regions and class names."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fdbpl.backbones import load_backbone
from fdbpl.pipelines import RegionRequests, build_pipeline
from fdbpl.regions.cost import read_cost
from tools.benchmark import official_code
from tools.benchmark.lower_bound import TextLowerBound
from tools.benchmark.official_recipes import KDPLStep, OfficialStep, ReleaseStep
from tools.benchmark.profiles import REWRITES, Step, Visual
from tools.benchmark.synthetic_inputs import SyntheticInputs
from tools.benchmark.timing import Variant, interleaved

POSITIVE, NEGATIVE = "a photo of a", "a photo of no"
DEPTHS = {
    "VPT": ("TRAINER__VPT__PROMPT_DEPTH_VISION",),
    "MaPLe": ("TRAINER__MAPLE__PROMPT_DEPTH",),
    "PromptSRC": ("TRAINER__PROMPTSRC__PROMPT_DEPTH_VISION", "TRAINER__PROMPTSRC__PROMPT_DEPTH_TEXT"),
}


class TrainerStep:
    """A step of a trainer that `SyntheticInputs.build_trainer` returned.

    Args:
        decode: returns the regions' pixels, uint8 [B, 3, S, S], for trainers with an online teacher, whose own loader
            would sample other regions. None: the trainer's loader reads the region bank.
    """

    def __init__(self, trainer, decode: Callable[[], Tensor] | None = None):
        self.trainer, self.decode = trainer, decode
        teacher = [] if decode is None else [trainer.supervision.teacher]
        self.models = [trainer.student.backbone, *teacher]

    def prepare(self) -> None:
        """Do nothing; `step` does all work."""

    def step(self) -> float:
        """Make one step and return the loss."""
        if self.decode is None:
            batch = next(iter(self.trainer.train_loader_x))
        else:
            batch = {"img": self.trainer.student.backbone.normalize(self.decode().to(self.trainer.device))}
        self.summary = self.trainer.forward_backward(batch)
        return self.summary["loss"]


def measure_step(inputs: SyntheticInputs, point: Step, say=print) -> dict:
    """Measure seconds and memory of the variants, and describe prompts and labelling."""
    variants, about = step_variants(inputs, point)
    say(f"{point.name}: {', '.join(variants)}", flush=True)
    return {"variants": interleaved(variants, point.rounds, inputs.device, say), **about}


def step_variants(inputs: SyntheticInputs, point: Step) -> tuple[dict[str, Variant], dict]:
    """Return the variants of a point by name, and the settings to record with them."""
    words, no_words = (" ".join([start] * (point.context // 4)) for start in (POSITIVE, NEGATIVE))
    values = {"TRAINER__FDBPL__CTX_INIT": words, "TRAINER__FDBPL__NEGATIVE_CTX_INIT": no_words,
              "TRAINER__COOP__CTX_INIT": words}  # fmt: skip
    names = inputs.names[: point.classes]

    def config(trainer: str, **more):
        return inputs.config(trainer, point.student, point.teacher, point.classes, point.batch, **values, **more)

    student = load_backbone(f"random:{point.student}", inputs.device, "fp16" if inputs.device == "cuda" else "fp32")

    def teacher(precision: str):
        return load_backbone(f"random:{point.teacher}", inputs.device, precision)

    teacher("fp32")  # loaded before the bank is generated, so that the cost of labelling excludes it
    fdbpl = inputs.build_trainer(config("FDBPL"))
    decode = decoder(inputs, fdbpl, student.image_size)
    dataset = fdbpl.dm.dataset
    texts = fdbpl.supervision.class_features(fdbpl.cfg, dataset, dataset.classnames, fdbpl.load_teacher)
    images, first = torch.arange(point.batch), torch.zeros(point.batch, dtype=torch.long)
    stored = fdbpl.supervision.lookup.teacher_logits(images, first).to(inputs.device)
    half = "fp16" if inputs.device == "cuda" else "bf16"
    label = torch.zeros(point.batch, dtype=torch.long)  # official code reads it, but does not use it

    def official(name: str, **labels: Tensor) -> official_code.OfficialCodeStep:
        models = [student, teacher("fp32")]
        trainer = official_code.build(name, inputs.checkouts[name], config("CoOp_KDPL"), names, *models)
        return official_code.OfficialCodeStep(trainer, models if name == "kdpl" else [student], decode, labels)

    def lower_bound() -> TextLowerBound:
        spaces = [fdbpl.student.prompts(), fdbpl.negative_prompt_learner()]
        with torch.no_grad():
            model = student.model
            suffix = torch.cat([space.embeddings[:, space.shared :] for space in spaces])
            suffix = suffix + model.positional_embedding[spaces[0].shared : spaces[0].embeddings.shape[1]]
            return TextLowerBound(student, suffix.to(model.dtype), torch.cat([s.eot - s.shared for s in spaces]))

    factories: dict[str, Callable[[], Variant]] = {
        "a": lambda: KDPLStep(student, teacher("fp32"), texts, names, decode, words),
        "a_official": lambda: official("kdpl", label=label),
        "a_half": lambda: KDPLStep(student, teacher(half), texts, names, decode, words),
        "a_star": lambda: TrainerStep(inputs.build_trainer(config("CoOp_KDPL")), decode),
        "b": lambda: ReleaseStep(student, stored, names, decode, [words, no_words]),
        "b_official": lambda: official("fdbpl", label=stored, hard_label=label),
        "c": lambda: TrainerStep(inputs.build_trainer(config("FDBPL", REGIONS__CACHE_STUDENT_FEATURES=False))),
        "d": lambda: TrainerStep(fdbpl),
        "e": lower_bound,
    }
    absent = {f"{name}_official" for name, checkout in REWRITES.items() if checkout not in inputs.checkouts}
    variants = {name: factories[name]() for name in point.variants if name not in absent}
    prompts = fdbpl.student.prompts()
    partial = {name: v.at_once for name, v in variants.items() if isinstance(v, OfficialStep) and not v.whole}
    labelled = read_cost(fdbpl.supervision.folder)
    about = {
        "positions": {"all": prompts.embeddings.shape[1], "shared": prompts.shared},
        "classes_at_once": partial,
        "labelling": {"seconds": labelled["seconds"], "regions": labelled["regions"]},
    }
    return variants, about


def measure_visual(inputs: SyntheticInputs, point: Visual, say=print) -> dict:
    """Measure the FDBPL variant and the KDPL variant of each method on the same regions."""
    results = {}
    for method in point.methods:
        depth: dict[str, Any] = dict.fromkeys(DEPTHS.get(method, ()), point.depth) if point.depth else {}
        settings = (point.student, point.teacher, point.classes, point.batch)
        stored, online = (
            inputs.build_trainer(inputs.config(name, *settings, **depth))
            for name in (f"FDBPL_{method}", f"{method}_KDPL")
        )
        decode = decoder(inputs, stored, online.student.backbone.image_size)
        variants = {f"FDBPL_{method}": TrainerStep(stored), f"{method}_KDPL": TrainerStep(online, decode)}
        say(f"{point.name}: {method}", flush=True)
        results[method] = interleaved(variants, point.rounds, inputs.device, say)
    return results


def decoder(inputs: SyntheticInputs, trainer, size: int) -> Callable[[], Tensor]:
    """Return a function that decodes the regions of `trainer`'s bank with its pipeline: uint8 [B, 3, S, S]."""
    paths = trainer.supervision.images
    images, first = torch.arange(len(paths)), torch.zeros(len(paths), dtype=torch.long)
    lookup = trainer.supervision.lookup
    requests = RegionRequests(
        paths,
        np.arange(len(paths)),
        np.asarray(lookup.boxes(images, first), np.float32),
        np.asarray(lookup.flips(images, first), bool),
    )
    workers = trainer.cfg.DATALOADER.NUM_WORKERS
    pipeline = build_pipeline("auto", inputs.root, size, len(paths), inputs.device, workers)
    return lambda: next(iter(pipeline(requests)))[1]
