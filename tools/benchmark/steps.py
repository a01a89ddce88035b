"""The arms of a point on the same regions, boxes and class names; then all of them in turn."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fdbpl.backbones import load_backbone
from fdbpl.pipelines import RegionRequests, build_pipeline
from fdbpl.regions.cost import read_cost
from tools.benchmark.lower_bound import TextLimit
from tools.benchmark.official_recipes import KDPLStep, OfficialStep, ReleaseStep
from tools.benchmark.profiles import Step, Visual
from tools.benchmark.synthetic_inputs import World
from tools.benchmark.timing import Arm, interleaved
from tools.benchmark.trainer_step import TrainerStep

POSITIVE, NEGATIVE = "a photo of a", "a photo of no"


def measure_step(world: World, point: Step, say=print) -> dict:
    """The arms' seconds and memory, what the labelling of a region took, and how long the prompts are."""
    arms, about = step_arms(world, point)
    say(f"{point.name}: {', '.join(arms)}", flush=True)
    return {"arms": interleaved(arms, point.seconds, point.most, world.device, say), **about}


def step_arms(world: World, point: Step) -> tuple[dict[str, Arm], dict]:
    """The arms of a point by their letters, and what is to be said of them."""
    words, no_words = (" ".join([start] * (point.context // 4)) for start in (POSITIVE, NEGATIVE))
    values = {"TRAINER__FDBPL__CTX_INIT": words, "TRAINER__FDBPL__NEGATIVE_CTX_INIT": no_words,
              "TRAINER__COOP__CTX_INIT": words}  # fmt: skip
    names = world.names[: point.classes]

    def config(trainer: str, **more):
        return world.config(trainer, point.student, point.teacher, point.classes, point.batch, **values, **more)

    student = load_backbone(f"random:{point.student}", world.device, "fp16" if world.device == "cuda" else "fp32")

    def teacher(precision: str):
        return load_backbone(f"random:{point.teacher}", world.device, precision)

    teacher("fp32")  # loaded before the bank is made, so that the cost of labelling is that of labelling
    looked_up = world.built(config("FDBPL"))
    cut = cut_regions(world, looked_up, student.image_size)
    texts = looked_up.supervision.class_features().to(world.device)
    every, first = torch.arange(point.batch), torch.zeros(point.batch, dtype=torch.long)
    stored = looked_up.supervision.lookup.teacher_logits(every, first).to(world.device)
    half = "fp16" if world.device == "cuda" else "bf16"

    def limit() -> TextLimit:
        spaces = [looked_up.student.prompts(), looked_up.negative_prompt_learner()]
        with torch.no_grad():
            model = student.model
            suffix = torch.cat([space.embeddings[:, space.shared :] for space in spaces])
            suffix = suffix + model.positional_embedding[spaces[0].shared : spaces[0].embeddings.shape[1]]
            return TextLimit(student, suffix.to(model.dtype), torch.cat([s.eot - s.shared for s in spaces]))

    makers: dict[str, Callable[[], Arm]] = {
        "a": lambda: KDPLStep(student, teacher("fp32"), texts, names, cut, words),
        "a_half": lambda: KDPLStep(student, teacher(half), texts, names, cut, words),
        "a_star": lambda: TrainerStep(world.built(config("CoOp_KDPL")), cut),
        "b": lambda: ReleaseStep(student, stored, names, cut, [words, no_words]),
        "c": lambda: TrainerStep(world.built(config("FDBPL", REGIONS__FEATURES=False))),
        "d": lambda: TrainerStep(looked_up),
        "e": limit,
    }
    arms = {letter: makers[letter]() for letter in point.arms}
    prompts = looked_up.student.prompts()
    at_once = {letter: arm.at_once for letter, arm in arms.items() if isinstance(arm, OfficialStep) and not arm.whole}
    labelled = read_cost(looked_up.supervision.folder)
    about = {
        "positions": {"all": prompts.embeddings.shape[1], "shared": prompts.shared},
        "classes_at_once": at_once,
        "labelling": {"seconds": labelled["seconds"], "regions": labelled["regions"]},
    }
    return arms, about


def measure_visual(world: World, point: Visual, say=print) -> dict:
    """Seconds of the stored and of the online twin of each method, on the same regions."""
    results = {}
    for method in point.methods:
        arms: dict[str, Arm] = {}
        depth = dict.fromkeys(DEPTHS.get(method, ()), point.depth) if point.depth else {}
        for name in (f"FDBPL_{method}", f"{method}_KDPL"):
            trainer = world.built(world.config(name, point.student, point.teacher, point.classes, point.batch, **depth))
            if name.startswith("FDBPL"):
                stored, arms[name] = trainer, TrainerStep(trainer)
            else:
                size = trainer.student.backbone.image_size
                arms[name] = TrainerStep(trainer, cut_regions(world, stored, size))
        say(f"{point.name}: {method}", flush=True)
        results[method] = interleaved(arms, point.seconds, point.most, world.device, say)
    return results


DEPTHS = {
    "VPT": ("TRAINER__VPT__PROMPT_DEPTH_VISION",),
    "MaPLe": ("TRAINER__MAPLE__PROMPT_DEPTH",),
    "PromptSRC": ("TRAINER__PROMPTSRC__PROMPT_DEPTH_VISION", "TRAINER__PROMPTSRC__PROMPT_DEPTH_TEXT"),
}


def cut_regions(world: World, trainer, size: int) -> Callable[[], Tensor]:
    """Cuts the regions that `trainer` looks up out of their files, by the trainers' pipeline: uint8 [B, 3, S, S]."""
    images = trainer.supervision.images
    every, first = torch.arange(len(images)), torch.zeros(len(images), dtype=torch.long)
    lookup = trainer.supervision.lookup
    requests = RegionRequests(
        images,
        np.arange(len(images)),
        np.asarray(lookup.boxes(every, first), np.float32),
        np.asarray(lookup.flips(every, first), bool),
    )
    workers = trainer.cfg.DATALOADER.NUM_WORKERS
    pipeline = build_pipeline("auto", world.root, size, len(images), world.device, workers)
    return lambda: next(iter(pipeline(requests)))[1]
