"""Example of a new method: a context and a linear adapter of the image features."""

import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.engine.batch import TrainBatch
from fdbpl.engine.registry import register
from fdbpl.engine.student import Student, StudentOutput
from fdbpl.engine.supervision.online_teacher import OnlineTeacher
from fdbpl.engine.trainer import PromptTrainer
from fdbpl.prompts import PromptLearner, Prompts

from .fdbpl import RegionDistillation


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.ADAPTER = CfgNode()
    cfg.TRAINER.ADAPTER.N_CTX = 4  # context vectors
    cfg.TRAINER.ADAPTER.DECAY = 0.1  # weight of the adapter's squared norm
    cfg.TRAINER.ADAPTER.PREC = "fp32"  # fp32 | fp16 | amp | bf16


class AdapterStudent(Student):
    """A context for the text encoder, and a linear layer after the frozen image encoder."""

    cfg_key = "ADAPTER"

    def __init__(self, settings: CfgNode, backbone, classnames: list[str], *template: str):
        super().__init__(settings, backbone, classnames, *template)
        self.prompt_learner = PromptLearner(backbone.model, classnames, settings.N_CTX)
        self.adapter = nn.Linear(backbone.embed_dim, backbone.embed_dim)

    def trainable_modules(self) -> dict[str, nn.Module]:
        return {"prompt_learner": self.prompt_learner, "adapter": self.adapter}

    def prompts(self, image_features: Tensor | None = None) -> Prompts:
        return self.prompt_learner()

    def image_features(self, batch: TrainBatch) -> Tensor:
        features = self.frozen_image_features(batch)
        return F.normalize(features + self.adapter(features), dim=-1)

    def regularization_losses(self, batch: TrainBatch, output: StudentOutput) -> dict[str, Tensor]:
        return {"decay": self.settings.DECAY * self.adapter.weight.square().sum()}


@register
class Adapter(PromptTrainer):
    """Supervised by the labels of the few shots."""

    student_class = AdapterStudent


@register
class Adapter_KDPL(Adapter):
    """Supervised by a teacher that runs in every step."""

    supervision_class = OnlineTeacher


@register
class FDBPL_Adapter(RegionDistillation, Adapter):
    """Supervised by the region bank."""
