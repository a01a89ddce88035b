"""Supervision by a teacher that runs in every step: KDPL (Mistretta et al., ECCV 2024; code: miccunifi/KDPL)."""

import torch
from torch import Tensor
from yacs.config import CfgNode

from fdbpl.backbones import load_backbone, resolve_precision
from fdbpl.errors import UserError
from fdbpl.losses import kl_forward, kl_reverse

from . import teacher
from .supervision import Supervision
from .view import View


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.KDPL = CfgNode()
    cfg.TRAINER.KDPL.ALPHA = 0.5  # weight of KL(teacher || student)
    cfg.TRAINER.KDPL.BETA = 0.5  # weight of KL(student || teacher)


class OnlineTeacher(Supervision):
    """alpha KL(p || q) + beta KL(q || p) per batch, p the teacher's distribution of the very image the student sees.

    As in KDPL the teacher's cosines are scaled by the student's logit scale, and labels are not used. The teacher is
    built when training starts; a mere test never sees it.
    """

    @classmethod
    def check_cfg(cls, cfg: CfgNode) -> None:
        teacher.check_cfg(cfg)
        resolve_precision(cfg.TEACHER.PREC, "cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")

    def prepare(self, student) -> None:
        self.teacher = load_backbone(self.cfg.TEACHER.NAME, str(self.device), self.cfg.TEACHER.PREC)
        size = tuple(self.cfg.INPUT.SIZE)
        if size != (self.teacher.image_size,) * 2:
            raise UserError(
                f"expected images of {self.teacher.image_size} pixels for the teacher {self.teacher.name}, found "
                f"INPUT.SIZE {size}; choose a teacher of that size, or FDBPL, whose bank gives each model its own size"
            )
        self.logit_scale = student.backbone.logit_scale
        self.texts = self.teacher.encode_text(
            teacher.prompts(teacher.template(self.cfg, self.dataset), self.dataset.classnames)
        )
        # from the student's normalisation to the teacher's: one multiplication, one addition
        mean, std, own_mean, own_std = (
            torch.tensor(values, device=self.device).view(1, 3, 1, 1)
            for values in (self.cfg.INPUT.PIXEL_MEAN, self.cfg.INPUT.PIXEL_STD, self.teacher.mean, self.teacher.std)
        )
        alike = torch.allclose(mean, own_mean) and torch.allclose(std, own_std)
        self.renormalize = None if alike else (std / own_std, (mean - own_mean) / own_std)

    def read(self, batch: dict) -> View:
        images = batch["img"].to(self.device, non_blocking=True)
        seen = images if self.renormalize is None else images * self.renormalize[0] + self.renormalize[1]
        logits = self.logit_scale * self.teacher.encode_image(seen) @ self.texts.T
        return View(images=images, teacher_logits=logits)

    def terms(self, logits: Tensor, view: View) -> dict[str, Tensor]:
        settings = self.cfg.TRAINER.KDPL
        return {
            "kl_forward": settings.ALPHA * kl_forward(view.teacher_logits, logits).mean(),
            "kl_reverse": settings.BETA * kl_reverse(view.teacher_logits, logits).mean(),
        }
