"""Zero-shot CLIP (Radford et al., ICML 2021): the data set's template, nothing learnt.

Official file: `trainers/zsclip.py` of KaiyangZhou/CoOp.
"""

from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.prompts import Prompts

from .prompt_trainer import PromptTrainer, register
from .student import Student
from .supervision.hard_labels import HardLabels
from .supervision.teacher import DEFAULT_TEMPLATE, prompts, refuse_template


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.ZEROSHOTCLIP = CfgNode()
    cfg.TRAINER.ZEROSHOTCLIP.TEMPLATE = ""  # sentence around the class name; "" = the data set's
    cfg.TRAINER.ZEROSHOTCLIP.PREC = "fp32"  # fp32 | fp16 | amp


class ZeroshotStudent(Student):
    """CLIP with one fixed sentence per class."""

    node = "ZEROSHOTCLIP"

    def __init__(self, settings: CfgNode, backbone, classnames: list[str], template: str = DEFAULT_TEMPLATE):
        super().__init__(settings, backbone, classnames)
        self.template = template

    def learners(self) -> dict[str, nn.Module]:
        return {}

    def text_features(self, *others: Prompts) -> list[Tensor]:
        return [self.backbone.encode_text(prompts(self.template, self.classnames))]


@register
class ZeroshotCLIP(PromptTrainer):
    """Tests CLIP as it is, with the data set's template (`dataset.template`) or TRAINER.ZEROSHOTCLIP.TEMPLATE."""

    student_class = ZeroshotStudent
    supervision_class = HardLabels

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        refuse_template(cfg.TRAINER.ZEROSHOTCLIP.TEMPLATE, "TRAINER.ZEROSHOTCLIP.TEMPLATE")

    def build_student(self, settings: CfgNode, backbone, classnames: list[str]) -> Student:
        template = settings.TEMPLATE or getattr(self.dm.dataset, "template", DEFAULT_TEMPLATE)
        print(f'Template: "{template}"')
        return ZeroshotStudent(settings, backbone, classnames, template)
