"""MaPLe: Multi-modal Prompt Learning (Khattak et al., CVPR 2023).

Official file: `trainers/maple.py` of muzairkhattak/multimodal-prompt-learning; there 2 tokens, depth 9, 5 epochs,
batch 4, lr 0.0035. Trains deep text prompts; the visual prompts of a block are a linear map of its text prompts.
"""

import copy

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.engine.registry import register
from fdbpl.engine.student import Student
from fdbpl.engine.supervision.online_teacher import OnlineTeacher
from fdbpl.engine.trainer import PromptTrainer
from fdbpl.prompts import PromptLearner, Prompts, by_block, deep_text_prompts, visual_width

from .fdbpl import RegionDistillation


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.MAPLE = CfgNode()
    cfg.TRAINER.MAPLE.N_CTX = 2  # prompts at the input of each prompted block, in both towers
    cfg.TRAINER.MAPLE.CTX_INIT = "a photo of a"  # its first N_CTX words start the input prompts; "" = random
    cfg.TRAINER.MAPLE.PROMPT_DEPTH = 9  # blocks that get prompts, counted from the first
    cfg.TRAINER.MAPLE.PREC = "fp16"  # fp32 | fp16 | amp | bf16


class MaPLeStudent(Student):
    """Deep text prompts, and visual prompts projected from them."""

    cfg_key = "MAPLE"
    frozen_image_tower = False

    def __init__(self, settings: CfgNode, backbone: Backbone, classnames: list[str], *template: str):
        super().__init__(settings, backbone, classnames, *template)
        clip_model, count, depth = backbone.model, settings.N_CTX, settings.PROMPT_DEPTH
        learner = PromptLearner(clip_model, classnames, count, settings.CTX_INIT, exact_n_ctx=True)
        deep = deep_text_prompts(clip_model, count, depth, "TRAINER.MAPLE.PROMPT_DEPTH")
        width = visual_width(clip_model, depth, "TRAINER.MAPLE.PROMPT_DEPTH")
        learner.proj = nn.Linear(learner.ctx.shape[1], width)
        learner.compound_prompts_text = nn.ParameterList(deep.values())
        shared_start = nn.Linear(learner.ctx.shape[1], width)
        learner.compound_prompt_projections = nn.ModuleList(copy.deepcopy(shared_start) for _ in deep)
        self.learner = nn.Module()
        self.learner.prompt_learner = learner

    def trainable_modules(self) -> dict[str, nn.Module]:
        return {"MultiModalPromptLearner": self.learner}

    def prompts(self, image_features: Tensor | None = None) -> Prompts:
        learner = self.learner.prompt_learner
        return learner()._replace(deep=by_block(list(learner.compound_prompts_text)))

    def image_prompts(self) -> list[Tensor]:
        learner = self.learner.prompt_learner
        pairs = zip(learner.compound_prompt_projections, learner.compound_prompts_text, strict=True)
        with torch.autocast(self.backbone.device.type, enabled=False):
            return [learner.proj(learner.ctx), *(project(text) for project, text in pairs)]


@register
class MaPLe(PromptTrainer):
    """MaPLe with few-shot labels."""

    student_class = MaPLeStudent


@register
class MaPLe_KDPL(MaPLe):
    """MaPLe, supervised by an online teacher (KDPL)."""

    supervision_class = OnlineTeacher


@register
class FDBPL_MaPLe(RegionDistillation, MaPLe):
    """MaPLe, supervised by the region bank (FDBPL)."""
