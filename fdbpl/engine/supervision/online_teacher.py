"""Supervision by a teacher that runs in every step: KDPL (Mistretta et al., ECCV 2024; code: miccunifi/KDPL)."""

from functools import cached_property

import torch
from torch import Tensor
from yacs.config import CfgNode

from fdbpl.backbones import Backbone, resolve_precision
from fdbpl.distributed import gather, shard
from fdbpl.errors import UserError
from fdbpl.losses import kl_forward, kl_reverse
from fdbpl.templates import fill_template

from .. import teachers as teacher
from ..batch import View
from ..student import Outputs, Student
from .base import Supervision
from .vocabulary import read_vocabulary


class OnlineTeacher(Supervision):
    """alpha KL(p || q) + beta KL(q || p) per batch, p the teacher's distribution of the very image the student sees.

    As in KDPL the teacher's cosines are scaled by the student's logit scale, and labels are not used. The teacher is
    built when training starts; a mere test never sees it. KDPL-CA (class-agnostic) knows not even the class names: both
    are asked about the K_MAX words of a large vocabulary that the teacher finds likeliest in the batch.
    """

    own_scale = False  # True: the teacher's logit scale for the teacher

    @classmethod
    def check_cfg(cls, cfg: CfgNode) -> None:
        teacher.check_cfg(cfg)
        device = "cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu"
        resolve_precision(cfg.TEACHER.PREC, device, "TEACHER.PREC")
        if cfg.TRAINER.KDPL.K_MAX < 2:
            raise UserError(f"expected TRAINER.KDPL.K_MAX of at least 2, found {cfg.TRAINER.KDPL.K_MAX}; give more")
        if max(cfg.TRAINER.KDPL.ALPHA, cfg.TRAINER.KDPL.BETA) <= 0:
            raise UserError("expected TRAINER.KDPL.ALPHA or BETA above 0.0, found neither; set one")

    @cached_property
    def teacher(self) -> Backbone:
        return teacher.load_teacher(self.cfg, self.dataset, str(self.device))

    @classmethod
    def load_class_features(cls, cfg: CfgNode, dataset, device: torch.device) -> Tensor:
        texts = fill_template(teacher.template(cfg, dataset), dataset.classnames)
        return teacher.load_teacher(cfg, dataset, str(device)).encode_text(texts)

    def class_features(self) -> Tensor:
        """The teacher's unit features of the data set's classes: float32 [C, D of the teacher]."""
        text = teacher.template(self.cfg, self.dataset)
        return self.teacher.encode_text(fill_template(text, self.dataset.classnames))

    def prepare(self, student: Student) -> Student:
        size, settings = tuple(self.cfg.INPUT.SIZE), self.cfg.TRAINER.KDPL
        if size != (self.teacher.image_size,) * 2:
            raise UserError(
                f"expected images of {self.teacher.image_size} pixels for the teacher {self.teacher.name}, found "
                f"INPUT.SIZE {size}; choose a teacher of that size, or FDBPL, whose bank gives each model its own size"
            )
        self.logit_scale = self.teacher.logit_scale if self.own_scale else student.backbone.logit_scale
        if settings.CLASS_AGNOSTIC:
            words = read_vocabulary(settings.VOCABULARY)
            self.texts = self.teacher.encode_text(fill_template(self._class_agnostic_template(), words))
            student = student.for_classes(words)
        else:
            self.texts = self.class_features()
        # from the student's normalisation to the teacher's: one multiplication, one addition
        mean, std, own_mean, own_std = (
            torch.tensor(values, device=self.device).view(1, 3, 1, 1)
            for values in (self.cfg.INPUT.PIXEL_MEAN, self.cfg.INPUT.PIXEL_STD, self.teacher.mean, self.teacher.std)
        )
        alike = torch.allclose(mean, own_mean) and torch.allclose(std, own_std)
        self.renormalize = None if alike else (std / own_std, (mean - own_mean) / own_std)
        return student

    def read(self, batch: dict) -> View:
        total = len(batch["img"])
        images = shard(batch["img"]).to(self.device, non_blocking=True)
        seen = images if self.renormalize is None else images * self.renormalize[0] + self.renormalize[1]
        logits = self.logit_scale * gather(self.teacher.encode_image(seen), total) @ self.texts.T
        return View(images=images, teacher_logits=logits, total=total)

    def classes(self, view: View) -> Tensor | None:
        """KDPL-CA: the words of the batch's largest mean probability; else all classes."""
        if not self.cfg.TRAINER.KDPL.CLASS_AGNOSTIC:
            return None
        likely = view.teacher_logits.softmax(dim=-1).mean(dim=0)
        return likely.topk(min(self.cfg.TRAINER.KDPL.K_MAX, len(likely))).indices

    def terms(self, outputs: Outputs, view: View) -> dict[str, Tensor]:
        settings, logits = self.cfg.TRAINER.KDPL, view.teacher_logits
        if outputs.classes is not None:
            logits = logits[:, outputs.classes]
        return {
            "kl_forward": settings.ALPHA * kl_forward(logits, outputs.logits).mean(),
            "kl_reverse": settings.BETA * kl_reverse(logits, outputs.logits).mean(),
        }

    def _class_agnostic_template(self) -> str:
        """Words are no classes of the data set: its template ("a type of pet") would be wrong for most."""
        trained = self.cfg.TEACHER.NAME.startswith(teacher.RUN)
        return "{}" if trained else self.cfg.TEACHER.TEMPLATE or teacher.DEFAULT_TEMPLATE
