"""VPT: deep visual prompts in CLIP's ViT, fixed text (after Jia et al., ECCV 2022).

Official file: `trainers/vpt.py` of muzairkhattak/multimodal-prompt-learning; there 8 tokens in all 12 blocks, 5 epochs,
batch 4, lr 0.0025. The text is "a photo of a {}." for all data sets.
"""

from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.engine.registry import register
from fdbpl.engine.supervision.online_teacher import OnlineTeacher
from fdbpl.engine.templates import DEFAULT_TEMPLATE
from fdbpl.engine.trainer import PromptTrainer
from fdbpl.prompts import NamedParameters, visual_prompts

from .fdbpl import RegionDistillation
from .zsclip import FixedTextStudent


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.VPT = CfgNode()
    cfg.TRAINER.VPT.N_CTX_VISION = 8  # visual prompts at the input of each prompted block
    cfg.TRAINER.VPT.PROMPT_DEPTH_VISION = 12  # blocks that get prompts, counted from the first
    cfg.TRAINER.VPT.PREC = "fp16"  # fp32 | fp16 | amp | bf16


class VPTStudent(FixedTextStudent):
    """Deep visual prompts and fixed class features."""

    cfg_key = "VPT"
    frozen_image_tower = False

    def __init__(self, settings: CfgNode, backbone: Backbone, classnames: list[str], *template: str):
        super().__init__(settings, backbone, classnames, *template)
        key = "TRAINER.VPT.PROMPT_DEPTH_VISION"
        visual = visual_prompts(backbone.model, settings.N_CTX_VISION, settings.PROMPT_DEPTH_VISION, key)
        self.prompt_learner = NamedParameters(visual)

    def fixed_text_features(self) -> Tensor:
        return self.frozen_text_features(DEFAULT_TEMPLATE)

    def trainable_modules(self) -> dict[str, nn.Module]:
        return {"prompt_learner": self.prompt_learner}

    def image_prompts(self) -> list[Tensor]:
        return list(self.prompt_learner.parameters())  # in the order of the blocks


@register
class VPT(PromptTrainer):
    """VPT with few-shot labels."""

    student_class = VPTStudent


@register
class VPT_KDPL(VPT):
    """VPT, supervised by an online teacher (KDPL)."""

    supervision_class = OnlineTeacher


@register
class FDBPL_VPT(RegionDistillation, VPT):
    """VPT, supervised by the region bank (FDBPL)."""
