"""A finished prompt run as a teacher, as PromptKD's is (its own is a ViT-L/14 with PromptSRC's prompts)."""

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
from .batch import View
from .student import Student
from .trained_run import FinishedRun

RUN = "run:"  # TEACHER.NAME run:<run folder>: a finished run with learned prompts is the teacher


class TrainedTeacher(Backbone):
    """A CLIP with the prompts of a run: images go through its visual prompts, class names through its contexts.

    Args:
        name: run:<run folder>. template: of the data set that is taught; a method's frozen sentences use it.

    Raises:
        UserError: no finished run there, or one whose class features do not follow from the class names alone.
    """

    def __init__(self, name: str, template: str, device: str):
        self._run, self._template = run_of(name, device), template
        clip = self._run.backbone
        sha256 = run_sha256(name) or _digest(clip.sha256, self._run.folder)
        super().__init__(**{**vars(clip), "name": name, "sha256": sha256})
        self._student = self._for(["class"])

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        with local_only():
            return self._student.image_features(View(images=images))

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Tensor:
        """Unit features of class names (not sentences): float32 [C, D]."""
        with local_only():
            return F.normalize(self._for(texts).text_features()[0], dim=-1)

    def _for(self, classnames: list[str]) -> Student:
        """The run's student before these classes, which it encodes in parts."""
        student = self._run.student(classnames, self._template)
        student.text_chunk = TEXTS_AT_A_TIME
        return student


def run_of(name: str, device: str = "cpu") -> FinishedRun:
    """The run that run:<run folder> names, refused where it cannot teach."""
    run = FinishedRun(name.removeprefix(RUN), device)
    if not run.trainer_class.student_class.serves_as_teacher:
        raise UserError(
            f"expected a run whose class features follow from the class names alone as TEACHER.NAME, found one of "
            f"{run.cfg.TRAINER.NAME} in {run.folder}; give one of CoOp, KgCoOp, ProGrad, TCP, VPT, IVLP, MaPLe, "
            "PromptSRC or their twins"
        )
    return run


def run_sha256(name: str) -> str | None:
    """Hex digest of a run's CLIP and of its checkpoints; None where only loading the CLIP tells."""
    run = run_of(name)
    sha256 = weights_sha256(run.cfg.MODEL.BACKBONE.NAME)
    return None if sha256 is None else _digest(sha256, run.folder)


def _digest(clip_sha256: str, run: Path) -> str:
    """Of what was learnt, not of the files around it."""
    sha = hashlib.sha256(clip_sha256.encode())
    for folder in sorted(path.parent for path in run.glob("*/checkpoint")):
        state = checkpoint.read(checkpoint.choose(folder, None))["state_dict"]
        for key in sorted(state):
            sha.update(key.encode())
            sha.update(state[key].cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


# the backend "run" of fdbpl.backbones


def load(folder: str, device: str, dtype: torch.dtype) -> TrainedTeacher:
    """Load the run in `folder` as a backbone, in the precision it was trained in; its texts are bare class names."""
    return TrainedTeacher(f"{RUN}{folder}", "{}", device)


def sha256(folder: str) -> str | None:
    """`Backbone.sha256` of `load(folder)`; None if only loading computes it."""
    return run_sha256(f"{RUN}{folder}")


def is_available(folder: str) -> bool:
    """Return whether the run folder exists."""
    return Path(folder).is_dir()
