"""A method that the house does not know, as somebody would write it: one file, put into trainers/."""

import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.engine.batch import View
from fdbpl.engine.registry import register
from fdbpl.engine.student import Outputs, Student
from fdbpl.engine.supervision.hard_labels import HardLabels
from fdbpl.engine.trainer import PromptTrainer
from fdbpl.prompts import PromptLearner, Prompts

from .fdbpl import with_region_bank
from .kdpl import with_online_teacher


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.ADAPTER = CfgNode()
    cfg.TRAINER.ADAPTER.N_CTX = 2  # context vectors
    cfg.TRAINER.ADAPTER.DECAY = 0.1  # weight of the adapter's size
    cfg.TRAINER.ADAPTER.PREC = "fp32"  # fp32 | fp16 | amp | bf16


class AdapterStudent(Student):
    """A context, and a linear layer behind the frozen image tower."""

    node = "ADAPTER"

    def __init__(self, settings: CfgNode, backbone, classnames: list[str], *template: str):
        super().__init__(settings, backbone, classnames, *template)
        self.prompt_learner = PromptLearner(backbone.model, classnames, settings.N_CTX)
        self.adapter = nn.Linear(backbone.embed_dim, backbone.embed_dim)

    def learners(self) -> dict[str, nn.Module]:
        return {"prompt_learner": self.prompt_learner, "adapter": self.adapter}

    def prompts(self, image_features: Tensor | None = None) -> Prompts:
        return self.prompt_learner()

    def image_features(self, view: View) -> Tensor:
        features = self.frozen_image_features(view)
        return F.normalize(features + self.adapter(features), dim=-1)

    def own_terms(self, view: View, outputs: Outputs) -> dict[str, Tensor]:
        return {"decay": self.settings.DECAY * self.adapter.weight.square().sum()}


@register
class Adapter(PromptTrainer):
    """The method with labels."""

    student_class = AdapterStudent
    supervision_class = HardLabels


with_online_teacher(Adapter)
with_region_bank(Adapter)
