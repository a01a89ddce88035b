"""TCP: Textual-based Class-aware Prompt tuning (Yao et al., CVPR 2024).

Official file: `trainers/tcp.py` of htyao89/Textual-based_Class-aware_prompt_tuning; there 4 vectors, 50 epochs, batch
32, Adam with lr 0.002 and eps 1e-3, W = 8. A small network maps each class's frozen feature to vectors that replace
the context at the input of one text block.
"""

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.engine.registry import register
from fdbpl.engine.settings import require
from fdbpl.engine.supervision.online_teacher import OnlineTeacher
from fdbpl.engine.trainer import PromptTrainer
from fdbpl.errors import UserError
from fdbpl.prompts import Prompts

from .cocoop import MetaNet
from .fdbpl import RegionDistillation
from .kgcoop import KgCoOpStudent


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.TCP = CfgNode()
    cfg.TRAINER.TCP.N_CTX = 4  # context vectors; the words of CTX_INIT override it
    cfg.TRAINER.TCP.CSC = False  # one context per class
    cfg.TRAINER.TCP.CTX_INIT = "a photo of a"  # initial words; "" = random
    cfg.TRAINER.TCP.CLASS_TOKEN_POSITION = "end"  # only end: the class-aware vectors replace positions 1 ... N_CTX
    cfg.TRAINER.TCP.BLOCK = 8  # text block, counted from 0, whose input gets them
    cfg.TRAINER.TCP.W = 8.0  # weight of 1 - mean cosine to the frozen class features
    cfg.TRAINER.TCP.PREC = "fp16"  # fp32 | fp16 | amp | bf16


class QuickGELU(nn.Module):
    """CLIP's activation."""

    def forward(self, features: Tensor) -> Tensor:
        return features * torch.sigmoid(1.702 * features)


class TCPStudent(KgCoOpStudent):
    """KgCoOp's student with class-aware context vectors in one text block."""

    cfg_key = "TCP"
    ignored_keys = ()

    def __init__(self, settings: CfgNode, backbone: Backbone, classnames: list[str], *template: str):
        super().__init__(settings, backbone, classnames, *template)
        blocks = len(backbone.model.transformer.resblocks)
        if not 0 <= settings.BLOCK < blocks:
            raise UserError(
                f"TRAINER.TCP.BLOCK is {settings.BLOCK}, but the text blocks of {backbone.name} have the numbers 0 to "
                f"{blocks - 1}"
            )
        context, dim = self.prompt_learner.ctx, backbone.embed_dim
        self.prompt_learner.meta_net = MetaNet(dim, dim // 4, context.shape[-2] * context.shape[-1], QuickGELU)

    def ending(self) -> str:
        """Return the text after the class name in the data set's template (", a type of pet."), unlike in CoOp."""
        return self.template.partition("{}")[2]

    def prompts(self, image_features: Tensor | None = None) -> Prompts:
        learner = self.prompt_learner
        class_aware = learner.meta_net(self.frozen_text)  # [C, M d]
        vectors = class_aware.unflatten(-1, learner.ctx.shape[-2:])  # [C, M, d]
        return learner()._replace(deep={self.settings.BLOCK: vectors})


@register
class TCP(PromptTrainer):
    """TCP with few-shot labels."""

    student_class = TCPStudent

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        position = cfg.TRAINER.TCP.CLASS_TOKEN_POSITION
        require(position == "end", "TRAINER.TCP.CLASS_TOKEN_POSITION", "end", position)


@register
class TCP_KDPL(TCP):
    """TCP, supervised by an online teacher (KDPL)."""

    supervision_class = OnlineTeacher


@register
class FDBPL_TCP(RegionDistillation, TCP):
    """TCP, supervised by the region bank (FDBPL)."""
