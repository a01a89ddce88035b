"""An example of a new method: one file in trainers/."""

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
    cfg.TRAINER.ADAPTER.N_CTX = 2  # context vectors
    cfg.TRAINER.ADAPTER.DECAY = 0.1  # weight of the adapter's squared norm
    cfg.TRAINER.ADAPTER.PREC = "fp32"  # fp32 | fp16 | amp | bf16


class AdapterStudent(Student):
    """A context, and a linear layer after the frozen image tower."""

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
    """The method with few-shot labels."""

    student_class = AdapterStudent


@register
class Adapter_KDPL(Adapter):
    """The method with an online teacher."""

    supervision_class = OnlineTeacher


@register
class FDBPL_Adapter(RegionDistillation, Adapter):
    """The method with the region bank."""
