"""A finished run with learned prompts as the teacher, as in PromptKD (there a ViT-L/14 with PromptSRC's prompts)."""

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from fdbpl.backbones import Backbone, weights_sha256
from fdbpl.backbones.backbone import TEXTS_AT_A_TIME
from fdbpl.distributed import local_only
from fdbpl.errors import UserError

from . import checkpoint
from .batch import TrainBatch
from .student import Student
from .trained_run import TrainedRun, load_run

RUN = "run:"  # TEACHER.NAME run:<run folder>


class PromptedTeacher(Backbone):
    """A CLIP with the prompts of a run: its visual prompts for images, its contexts for class names.

    Args:
        name: run:<run folder>.
        template: of the data set that is taught; the frozen texts of a method use it.

    Raises:
        UserError: there is no finished run, or its class features need more than class names.
    """

    def __init__(self, name: str, template: str, device: str):
        self._run, self._template = _load(name, device), template
        clip = self._run.backbone
        sha256 = run_sha256(name) or _digest(clip.sha256, self._run)
        super().__init__(**{**vars(clip), "name": name, "sha256": sha256})
        self._student = self._student_for(["class"])

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        with local_only():
            return self._student.image_features(TrainBatch(images=images))

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Tensor:
        """Return unit features of bare class names, float32 [C, D]."""
        with local_only():
            return F.normalize(self._student_for(texts).classifier_features(), dim=-1)

    def _student_for(self, classnames: list[str]) -> Student:
        student = self._run.student(classnames, self._template)
        student.matching = None  # the feature of a name must not depend on the other names
        student.text_chunk = TEXTS_AT_A_TIME
        return student


def run_sha256(name: str) -> str | None:
    """Return the hex digest of a run's CLIP and checkpoints; None if the CLIP's hash is known only after loading it."""
    run = _load(name)
    sha256 = weights_sha256(run.cfg.MODEL.BACKBONE.NAME)
    return None if sha256 is None else _digest(sha256, run)


def _load(name: str, device: str = "cpu") -> TrainedRun:
    run = load_run(name.removeprefix(RUN), device)
    if not run.trainer_class.student_class.serves_as_teacher:
        raise UserError(
            f"TEACHER.NAME {name} is a run of {run.cfg.TRAINER.NAME}, whose class features need more than class names. "
            "Give a run of CoOp, KgCoOp, ProGrad, TCP, VPT, IVLP, MaPLe, PromptSRC or of their KDPL or FDBPL variants"
        )
    return run


def _digest(clip_sha256: str, run: TrainedRun) -> str:
    """Hash the trained parameters, not the files around them, and the share of the frozen text."""
    sha = hashlib.sha256(clip_sha256.encode())
    if run.cfg.TRAINER.FDBPL.FROZEN_TEXT_WEIGHT:
        sha.update(f"frozen text {run.cfg.TRAINER.FDBPL.FROZEN_TEXT_WEIGHT}".encode())
    for folder in sorted(path.parent for path in run.folder.glob("*/checkpoint")):
        state = checkpoint.read(checkpoint.find_checkpoint(folder, None))["state_dict"]
        for key in sorted(state):
            sha.update(key.encode())
            sha.update(state[key].cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


# the backend "run" of fdbpl.backbones


def load(folder: str, device: str, dtype: torch.dtype) -> PromptedTeacher:
    """Load the run in `folder` as a backbone, in the precision it was trained in; its texts are bare class names."""
    return PromptedTeacher(f"{RUN}{folder}", "{}", device)


def sha256(folder: str) -> str | None:
    """Return the `Backbone.sha256` of `load(folder)`; None if only loading computes it."""
    return run_sha256(f"{RUN}{folder}")


def is_available(folder: str) -> bool:
    """Return whether the run folder exists."""
    return Path(folder).is_dir()
