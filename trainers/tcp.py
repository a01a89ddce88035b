"""TCP: Textual-based Class-aware Prompt tuning (Yao et al., CVPR 2024).

Official file: `trainers/tcp.py` of htyao89/Textual-based_Class-aware_prompt_tuning; there 4 vectors, 50 epochs, batch
32, Adam with lr 0.002 and eps 1e-3, W = 8. A small network turns each class's frozen feature into vectors that replace
the context at the input of one text block.
"""

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.engine.registry import register
from fdbpl.engine.settings import require
from fdbpl.engine.supervision.hard_labels import HardLabels
from fdbpl.engine.trainer import PromptTrainer
from fdbpl.errors import UserError
from fdbpl.prompts import Prompts

from .cocoop import MetaNet
from .kgcoop import KgCoOpStudent


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.TCP = CfgNode()
    cfg.TRAINER.TCP.N_CTX = 4  # context vectors; the words of CTX_INIT override it
    cfg.TRAINER.TCP.CSC = False  # one context per class
    cfg.TRAINER.TCP.CTX_INIT = "a photo of a"  # words to start from; "" = random
    cfg.TRAINER.TCP.CLASS_TOKEN_POSITION = "end"  # nothing else: the class-aware vectors replace positions 1 ... N_CTX
    cfg.TRAINER.TCP.BLOCK = 8  # text block, counted from 0, at whose input they do
    cfg.TRAINER.TCP.W = 8.0  # weight of 1 - mean cosine to the frozen class features
    cfg.TRAINER.TCP.PREC = "fp16"  # fp32 | fp16 | amp | bf16


class QuickGELU(nn.Module):
    """CLIP's activation."""

    def forward(self, features: Tensor) -> Tensor:
        return features * torch.sigmoid(1.702 * features)


class TCPStudent(KgCoOpStudent):
    node = "TCP"
    ignored_keys = ()

    def __init__(self, settings: CfgNode, backbone: Backbone, classnames: list[str], *template: str):
        super().__init__(settings, backbone, classnames, *template)
        blocks = len(backbone.model.transformer.resblocks)
        if not 0 <= settings.BLOCK < blocks:
            raise UserError(
                f"expected TRAINER.TCP.BLOCK from 0 to {blocks - 1}, the last text block of {backbone.name}, found "
                f"{settings.BLOCK}; set another"
            )
        context, dim = self.prompt_learner.ctx, backbone.embed_dim
        self.prompt_learner.meta_net = MetaNet(dim, dim // 4, context.shape[-2] * context.shape[-1], QuickGELU)

    def ending(self) -> str:
        """What follows the class name in the data set's template (", a type of pet."), unlike in CoOp."""
        return self.template.partition("{}")[2]

    def prompts(self, image_features: Tensor | None = None) -> Prompts:
        learner = self.prompt_learner
        class_aware = learner.meta_net(self.frozen_text)  # [C, M d]
        vectors = class_aware.unflatten(-1, learner.ctx.shape[-2:])  # [C, M, d]
        return learner()._replace(deep={self.settings.BLOCK: vectors})


@register
class TCP(PromptTrainer):
    """TCP with the labels of the few shots."""

    student_class = TCPStudent
    supervision_class = HardLabels

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        position = cfg.TRAINER.TCP.CLASS_TOKEN_POSITION
        require(position == "end", "TRAINER.TCP.CLASS_TOKEN_POSITION", "end", position)
