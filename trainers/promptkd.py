"""PromptKD: Unsupervised Prompt Distillation for Vision-Language Models (Li et al., CVPR 2024).

Official file: `trainers/promptkd.py` of zhengli97/PromptKD; there the student is ViT-B/16 and the teacher ViT-L/14 with
PromptSRC's prompts, 20 epochs, batch 8, lr 0.005, KD_WEIGHT 1000 (200 for some sets), on all images of all classes. The
student has visual prompts and a projector into the teacher's space; its class features are the teacher's. The teacher
is any CLIP, or a finished run with learned prompts (TEACHER.NAME run:<run folder>).
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.engine.batch import TrainBatch
from fdbpl.engine.registry import register
from fdbpl.engine.settings import require
from fdbpl.engine.student import Student, StudentOutput
from fdbpl.engine.supervision.base import Supervision
from fdbpl.engine.supervision.online_teacher import OnlineTeacher
from fdbpl.engine.trainer import PromptTrainer
from fdbpl.errors import UserError
from fdbpl.losses import kl_forward
from fdbpl.prompts import NamedParameters, visual_prompts

from .fdbpl import RegionDistillation
from .zsclip import FixedTextStudent


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.PROMPTKD = CfgNode()
    cfg.TRAINER.PROMPTKD.N_CTX_VISION = 4  # visual prompts at the input of each prompted block
    cfg.TRAINER.PROMPTKD.PROMPT_DEPTH_VISION = 9  # blocks that get prompts, counted from the first
    cfg.TRAINER.PROMPTKD.KD_WEIGHT = 1000.0  # weight of the KL divergence per logit
    cfg.TRAINER.PROMPTKD.TEMPERATURE = 1.0  # of both distributions
    cfg.TRAINER.PROMPTKD.PREC = "fp16"  # fp32 | fp16 | amp | bf16


class Projector(nn.Module):
    """1x1 convolution, batch norm, ReLU, 1x1 convolution, with official names: [B, D] -> [B, D of the teacher]."""

    def __init__(self, dim: int, teacher_dim: int):
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(dim, teacher_dim, 1),
            nn.BatchNorm2d(teacher_dim),
            nn.ReLU(),
            nn.Conv2d(teacher_dim, teacher_dim, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.conv1(features[..., None, None])[..., 0, 0]

    def as_linear(self) -> dict[str, Tensor]:
        """Return the state of the equivalent Sequential(Linear, ReLU, Linear) with folded batch norm, for eval mode."""
        first, norm, _, second = self.conv1
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        return {
            "0.weight": first.weight.flatten(1) * gain[:, None],
            "0.bias": (first.bias - norm.running_mean) * gain + norm.bias,
            "2.weight": second.weight.flatten(1),
            "2.bias": second.bias,
        }


class PromptKDStudent(FixedTextStudent):
    """Visual prompts and a projector into the teacher's space, with the teacher's class features.

    Args:
        class_features: of the teacher, unit, float32 [C, D of the teacher]; the others are those of `Student`.
    """

    cfg_key = "PROMPTKD"
    uses_teacher_features = True
    serves_as_teacher = False
    frozen_image_tower = False

    def __init__(
        self, settings: CfgNode, backbone: Backbone, classnames: list[str], template: str, class_features: Tensor
    ):
        self._given = class_features.to(backbone.device)
        super().__init__(settings, backbone, classnames, template)
        key = "TRAINER.PROMPTKD.PROMPT_DEPTH_VISION"
        visual = visual_prompts(backbone.model, settings.N_CTX_VISION, settings.PROMPT_DEPTH_VISION, key)
        self.visual = list(visual)  # names
        self.learner = NamedParameters(visual)
        self.learner.VPT_image_trans = Projector(backbone.embed_dim, class_features.shape[1])

    def fixed_text_features(self) -> Tensor:
        return self._given

    def trainable_modules(self) -> dict[str, nn.Module]:
        return {"VLPromptLearner": self.learner}

    def image_prompts(self) -> list[Tensor]:
        return [self.learner.get_parameter(name) for name in self.visual]

    def image_tensors(self) -> dict[str, Tensor]:
        projector = self.learner.VPT_image_trans.as_linear()
        return super().image_tensors() | {f"projector.{name}": value for name, value in projector.items()}

    def image_features(self, batch: TrainBatch) -> Tensor:
        return F.normalize(self.learner.VPT_image_trans(self.prompted_image_features(batch)), dim=-1)


class LogitTeacher(OnlineTeacher):
    """KL(teacher || student) per logit, with the teacher's own logit scale."""

    own_scale = True

    @classmethod
    def check_cfg(cls, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        if cfg.TRAINER.KDPL.CLASS_AGNOSTIC:
            raise UserError(
                "TRAINER.KDPL.CLASS_AGNOSTIC True cannot be used with PromptKD, whose class features are the teacher's "
                "for the classes of the data set; leave it out"
            )

    def losses(self, output: StudentOutput, batch: TrainBatch) -> dict[str, Tensor]:
        settings = self.cfg.TRAINER.PROMPTKD
        divergence = kl_forward(batch.teacher_logits / settings.TEMPERATURE, output.logits / settings.TEMPERATURE)
        return {"kl": settings.KD_WEIGHT * settings.TEMPERATURE**2 * divergence.sum() / output.logits.numel()}


@register
class PromptKD(PromptTrainer):
    """PromptKD with an online teacher."""

    student_class = PromptKDStudent
    supervision_class: type[Supervision] = LogitTeacher

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        temperature, size = cfg.TRAINER.PROMPTKD.TEMPERATURE, cfg.DATALOADER.TRAIN_X.BATCH_SIZE
        require(temperature > 0, "TRAINER.PROMPTKD.TEMPERATURE", "above 0.0", temperature)
        require(size >= 2, "DATALOADER.TRAIN_X.BATCH_SIZE", "at least 2 for PromptKD's batch norm", size)

    @classmethod
    def new_student(
        cls, cfg: CfgNode, backbone: Backbone, classnames: list[str], template: str,
        teacher_features: Callable[[list[str]], Tensor],
    ) -> Student:  # fmt: skip
        return PromptKDStudent(cls.settings(cfg), backbone, classnames, template, teacher_features(classnames))


@register
class FDBPL_PromptKD(RegionDistillation, PromptKD):
    """PromptKD, supervised by the region bank (FDBPL)."""
