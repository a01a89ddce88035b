"""IVLP: independent deep prompts in both towers, the baseline of MaPLe (Khattak et al., CVPR 2023).

Official file: `trainers/independentVL.py` of muzairkhattak/multimodal-prompt-learning; there 2 + 2 tokens, depth 9, 5
epochs, batch 4, lr 0.0025.
"""

from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.engine.registry import register
from fdbpl.engine.student import Student
from fdbpl.engine.supervision.online_teacher import OnlineTeacher
from fdbpl.engine.trainer import PromptTrainer
from fdbpl.prompts import NamedParameters, PromptLearner, Prompts, by_block, deep_text_prompts, visual_prompts

from .fdbpl import RegionDistillation


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.IVLP = CfgNode()
    cfg.TRAINER.IVLP.N_CTX_VISION = 2  # visual prompts at the input of each prompted block
    cfg.TRAINER.IVLP.N_CTX_TEXT = 2  # text prompts
    cfg.TRAINER.IVLP.CTX_INIT = "a photo of a"  # its first N_CTX_TEXT words start the input prompts; "" = random
    cfg.TRAINER.IVLP.PROMPT_DEPTH_VISION = 9  # image blocks that get prompts, counted from the first
    cfg.TRAINER.IVLP.PROMPT_DEPTH_TEXT = 9  # the same for text blocks
    cfg.TRAINER.IVLP.PREC = "fp16"  # fp32 | fp16 | amp | bf16


class IVLPStudent(Student):
    """Deep prompts in the text tower and, independent of them, in the image tower."""

    cfg_key = "IVLP"
    frozen_image_tower = False

    def __init__(self, settings: CfgNode, backbone: Backbone, classnames: list[str], *template: str):
        super().__init__(settings, backbone, classnames, *template)
        clip_model, key = backbone.model, f"TRAINER.{self.cfg_key}.PROMPT_DEPTH_"
        visual = visual_prompts(clip_model, settings.N_CTX_VISION, settings.PROMPT_DEPTH_VISION, f"{key}VISION")
        deep = deep_text_prompts(clip_model, settings.N_CTX_TEXT, settings.PROMPT_DEPTH_TEXT, f"{key}TEXT")
        self.visual, self.deep_text = list(visual), list(deep)  # names
        self.learner = NamedParameters({**visual, **deep})
        self.learner.prompt_learner = PromptLearner(
            clip_model, classnames, settings.N_CTX_TEXT, settings.CTX_INIT, exact_n_ctx=True
        )

    def trainable_modules(self) -> dict[str, nn.Module]:
        return {"VLPromptLearner": self.learner}

    def prompts(self, image_features: Tensor | None = None) -> Prompts:
        deep = by_block([self.learner.get_parameter(name) for name in self.deep_text])
        return self.learner.prompt_learner()._replace(deep=deep)

    def image_prompts(self) -> list[Tensor]:
        return [self.learner.get_parameter(name) for name in self.visual]


@register
class IVLP(PromptTrainer):
    """IVLP with few-shot labels."""

    student_class = IVLPStudent


@register
class IVLP_KDPL(IVLP):
    """IVLP, supervised by an online teacher (KDPL)."""

    supervision_class = OnlineTeacher


@register
class FDBPL_IVLP(RegionDistillation, IVLP):
    """IVLP, supervised by the region bank (FDBPL)."""
