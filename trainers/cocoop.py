"""CoCoOp: Conditional Prompt Learning for Vision-Language Models (Zhou et al., CVPR 2022).

Official file: `trainers/cocoop.py` of KaiyangZhou/CoOp; there 10 epochs, batch 1, lr 0.002, "a photo of a". A small
network maps the image feature to a vector that is added to every context vector.
"""

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.engine.registry import register
from fdbpl.engine.student import Classifier, Student
from fdbpl.engine.supervision.online_teacher import OnlineTeacher
from fdbpl.engine.trainer import PromptTrainer
from fdbpl.prompts import PromptLearner, Prompts

from .fdbpl import RegionDistillation

SEQUENCES = 4096  # prompts encoded at a time in a test: images times classes


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.COCOOP = CfgNode()
    cfg.TRAINER.COCOOP.N_CTX = 16  # context vectors; the words of CTX_INIT override it
    cfg.TRAINER.COCOOP.CTX_INIT = ""  # initial words; "" = random
    cfg.TRAINER.COCOOP.PREC = "fp16"  # fp32 | fp16 | amp | bf16


class MetaNet(nn.Module):
    """Linear, activation, linear: [B, D] -> [B, width]; the layers carry their official names."""

    def __init__(self, dim: int, hidden: int, width: int, activation: type[nn.Module] = nn.ReLU):
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden)
        self.relu = activation()
        self.linear2 = nn.Linear(hidden, width)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear2(self.relu(self.linear1(features)))


class CoCoOpStudent(Student):
    """One context per image. The text tower encodes a batch at once; the classes of an image share its prefix."""

    cfg_key = "COCOOP"
    serves_as_teacher = False
    text_follows_image = True

    def __init__(self, settings: CfgNode, backbone: Backbone, classnames: list[str], *template: str):
        super().__init__(settings, backbone, classnames, *template)
        self.prompt_learner = PromptLearner(backbone.model, classnames, settings.N_CTX, settings.CTX_INIT)
        width = self.prompt_learner.ctx.shape[-1]
        self.prompt_learner.meta_net = MetaNet(backbone.embed_dim, backbone.embed_dim // 16, width)

    def trainable_modules(self) -> dict[str, nn.Module]:
        return {"prompt_learner": self.prompt_learner}

    def prompts(self, image_features: Tensor | None = None) -> Prompts:
        learner = self.prompt_learner
        shift = learner.meta_net(image_features)  # [B, d]
        return learner(learner.ctx + shift[:, None, None])  # [B, 1, M, d]: one group of prompts per image

    def build_classifier(self) -> Classifier:
        def classify(image_features: Tensor) -> Tensor:
            parts = image_features.split(max(1, SEQUENCES // len(self.classnames)))
            return torch.cat([self.logits(part, self.classifier_features(part)) for part in parts])

        return classify


@register
class CoCoOp(PromptTrainer):
    """CoCoOp with few-shot labels."""

    student_class = CoCoOpStudent


@register
class CoCoOp_KDPL(CoCoOp):
    """CoCoOp, supervised by an online teacher (KDPL)."""

    supervision_class = OnlineTeacher


@register
class FDBPL_CoCoOp(RegionDistillation, CoCoOp):
    """CoCoOp, supervised by the region bank (FDBPL)."""
