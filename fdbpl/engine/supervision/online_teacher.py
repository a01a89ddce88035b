"""Supervision by a teacher that runs in every step: KDPL.

Mistretta et al., "Improving Zero-shot Generalization of Learned Prompts via Unsupervised Knowledge Distillation", ECCV
2024; official code: `src/trainers/*_kdpl.py` of miccunifi/KDPL. A method's own regularization losses (PromptSRC,
KgCoOp) stay.
"""

import torch
from torch import Tensor
from yacs.config import CfgNode

from fdbpl.backbones import Backbone, resolve_precision
from fdbpl.distributed import gather, shard
from fdbpl.errors import UserError
from fdbpl.losses import kl_forward, kl_reverse
from fdbpl.templates import fill_template

from .. import teachers
from ..bank_discovery import teacher_precision
from ..batch import TrainBatch
from ..student import Student, StudentOutput
from ..templates import DEFAULT_TEMPLATE
from .base import Supervision, TeacherLoader
from .vocabulary import read_vocabulary


class OnlineTeacher(Supervision):
    """alpha KL(p || q) + beta KL(q || p), with p the teacher's distribution for the images that the student receives.

    As in KDPL, the teacher's cosines are scaled by the student's logit scale, and labels are not used. KDPL-CA
    (class-agnostic) does not use the class names either: student and teacher score the K_MAX words of a large
    vocabulary that the teacher finds most likely in the batch.
    """

    has_teacher = True
    own_scale = False  # True: the teacher's logits use the teacher's own logit scale

    def __init__(self, cfg: CfgNode, dataset, student: Student, device: torch.device, load_teacher: TeacherLoader):
        super().__init__(cfg, dataset, student, device, load_teacher)
        self.teacher = load_teacher()
        size, settings = tuple(cfg.INPUT.SIZE), cfg.TRAINER.KDPL
        if size != (self.teacher.image_size,) * 2:
            raise UserError(
                f"The teacher {self.teacher.name} needs images of {self.teacher.image_size} pixels, but INPUT.SIZE is "
                f"{size}. Choose a teacher of that size, or an FDBPL trainer, whose region bank gives each model its "
                "own size"
            )
        self.logit_scale = self.teacher.logit_scale if self.own_scale else student.backbone.logit_scale
        if settings.CLASS_AGNOSTIC:
            words = read_vocabulary(settings.VOCABULARY)
            prompts = fill_template(_class_agnostic_template(cfg), words)
            self.train_student = student.with_classes(words)
        else:
            prompts = teachers.teacher_prompts(cfg, dataset, dataset.classnames)
        self.texts = self.teacher.encode_text(prompts)
        # from the student's normalisation to the teacher's: one multiplication, one addition
        mean, std, own_mean, own_std = (
            torch.tensor(values, device=device).view(1, 3, 1, 1)
            for values in (cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD, self.teacher.mean, self.teacher.std)
        )
        alike = torch.allclose(mean, own_mean) and torch.allclose(std, own_std)
        self.renormalize = None if alike else (std / own_std, (mean - own_mean) / own_std)

    @classmethod
    def check_cfg(cls, cfg: CfgNode) -> None:
        teachers.check_cfg(cfg)
        device = "cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu"
        resolve_precision(cfg.TEACHER.PREC, device, "TEACHER.PREC")
        settings = cfg.TRAINER.KDPL
        if settings.K_MAX < 2:
            raise UserError(f"TRAINER.KDPL.K_MAX is {settings.K_MAX}; it must be at least 2 words")
        if settings.CLASS_AGNOSTIC and cfg.TEACHER.TEMPLATES:
            raise UserError(
                "TEACHER.TEMPLATES cannot be used with TRAINER.KDPL.CLASS_AGNOSTIC True, whose words are no classes of "
                "the data set; leave one of them out"
            )
        if cfg.TEACHER.SECOND.NAME:
            raise UserError("TEACHER.SECOND.NAME needs a region bank, i.e. an FDBPL trainer; leave it out")
        if max(settings.ALPHA, settings.BETA) <= 0:
            raise UserError("TRAINER.KDPL.ALPHA and BETA are both 0.0, so there is no loss; set one of them above 0.0")

    @classmethod
    def teacher_precision(cls, cfg: CfgNode) -> str:
        return teacher_precision(cfg)

    @classmethod
    def load_teacher(cls, cfg: CfgNode, dataset, device: torch.device) -> Backbone:
        return teachers.load_teacher(cfg, dataset, str(device))

    @classmethod
    def class_features(cls, cfg: CfgNode, dataset, classnames: list[str], load_teacher: TeacherLoader) -> Tensor:
        return load_teacher().encode_text(teachers.teacher_prompts(cfg, dataset, classnames))

    def read(self, batch: dict) -> TrainBatch:
        total = len(batch["img"])
        images = shard(batch["img"]).to(self.device, non_blocking=True)
        inputs = images if self.renormalize is None else images * self.renormalize[0] + self.renormalize[1]
        logits = self.logit_scale * gather(self.teacher.encode_image(inputs), total) @ self.texts.T
        return TrainBatch(images=images, teacher_logits=logits, total=total)

    def classes(self, batch: TrainBatch) -> Tensor | None:
        """Return the words with the largest mean probability in the batch for KDPL-CA; otherwise all classes."""
        if not self.cfg.TRAINER.KDPL.CLASS_AGNOSTIC:
            return None
        assert batch.teacher_logits is not None
        likely = batch.teacher_logits.softmax(dim=-1).mean(dim=0)
        return likely.topk(min(self.cfg.TRAINER.KDPL.K_MAX, len(likely))).indices

    def losses(self, output: StudentOutput, batch: TrainBatch) -> dict[str, Tensor]:
        settings, logits = self.cfg.TRAINER.KDPL, batch.teacher_logits
        assert logits is not None
        if output.classes is not None:
            logits = logits[:, output.classes]
        return {
            "kl_forward": settings.ALPHA * kl_forward(logits, output.logits).mean(),
            "kl_reverse": settings.BETA * kl_reverse(logits, output.logits).mean(),
        }


def _class_agnostic_template(cfg: CfgNode) -> str:
    """Return the template of vocabulary words; that of the data set ("a type of pet") would not suit most of them."""
    if cfg.TEACHER.NAME.startswith(teachers.RUN):
        return "{}"
    return cfg.TEACHER.TEMPLATE or DEFAULT_TEMPLATE
