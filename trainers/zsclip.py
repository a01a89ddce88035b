"""Zero-shot CLIP (Radford et al., ICML 2021): fixed prompts without training.

Official file: `trainers/zsclip.py` of KaiyangZhou/CoOp.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.engine.registry import register
from fdbpl.engine.settings import check_template
from fdbpl.engine.student import Student
from fdbpl.engine.templates import IMAGENET_TEMPLATES_SELECT
from fdbpl.engine.trainer import PromptTrainer
from fdbpl.prompts import Prompts


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.ZEROSHOTCLIP = CfgNode()
    cfg.TRAINER.ZEROSHOTCLIP.TEMPLATE = ""  # prompt template; "" = the data set's
    cfg.TRAINER.ZEROSHOTCLIP.PREC = "fp32"  # fp32 | fp16 | amp | bf16


class FixedTextStudent(Student):
    """Class features that are computed once and not trained: by default those of the data set's template."""

    cfg_key = "ZEROSHOTCLIP"
    learns_text = False

    def __init__(self, settings: CfgNode, backbone: Backbone, classnames: list[str], *template: str):
        super().__init__(settings, backbone, classnames, *template)
        self.register_buffer("class_features", self.fixed_text_features(), persistent=False)

    def fixed_text_features(self) -> Tensor:
        """Return unit class features, float32 [C, D]."""
        return self.frozen_text_features(self.template)

    def trainable_modules(self) -> dict[str, nn.Module]:
        return {}

    def text_features(
        self, *others: Prompts, image_features: Tensor | None = None, classes: Tensor | None = None
    ) -> list[Tensor]:
        return [self.class_features if classes is None else self.class_features[classes]]


class TemplateEnsembleStudent(FixedTextStudent):
    """Normalised mean of the unit class features over CLIP's seven selected templates and the data set's."""

    def fixed_text_features(self) -> Tensor:
        templates = [*IMAGENET_TEMPLATES_SELECT, self.template]
        return F.normalize(sum(self.frozen_text_features(template) for template in templates), dim=-1)


class ZeroshotTrainer(PromptTrainer):
    """Test of CLIP without training, with the data set's template or TRAINER.ZEROSHOTCLIP.TEMPLATE."""

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        check_template(cfg.TRAINER.ZEROSHOTCLIP.TEMPLATE, "TRAINER.ZEROSHOTCLIP.TEMPLATE")

    def build_student(self, backbone: Backbone, classnames: list[str]) -> Student:
        student = super().build_student(backbone, classnames)
        print(f'Template: "{student.template}"')
        return student

    @classmethod
    def choose_template(cls, cfg: CfgNode, template: str) -> str:
        return cfg.TRAINER.ZEROSHOTCLIP.TEMPLATE or template


@register
class ZeroshotCLIP(ZeroshotTrainer):
    """Zero-shot CLIP with one prompt per class."""

    student_class = FixedTextStudent


@register
class ZeroshotCLIP2(ZeroshotTrainer):
    """Zero-shot CLIP with an ensemble of prompts per class."""

    student_class = TemplateEnsembleStudent
