"""KgCoOp: Visual-Language Prompt Tuning with Knowledge-guided Context Optimization (Yao et al., CVPR 2023).

Official file: `trainers/kgcoop.py` of htyao89/KgCoOp; there 4 vectors, 100 epochs, batch 128, lr 0.002, W = 8. CoOp's
context, held near the frozen class features of the data set's template.
"""

from torch import Tensor
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.engine.batch import View
from fdbpl.engine.registry import register
from fdbpl.engine.student import Outputs
from fdbpl.engine.supervision.hard_labels import HardLabels
from fdbpl.engine.trainer import PromptTrainer
from fdbpl.losses import class_distance

from .coop import CoOpStudent


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.KGCOOP = CfgNode()
    cfg.TRAINER.KGCOOP.N_CTX = 4  # context vectors; the words of CTX_INIT override it
    cfg.TRAINER.KGCOOP.CSC = False  # one context per class
    cfg.TRAINER.KGCOOP.CTX_INIT = "a photo of a"  # words to start from; "" = random
    cfg.TRAINER.KGCOOP.CLASS_TOKEN_POSITION = "end"  # end | middle | front
    cfg.TRAINER.KGCOOP.W = 8.0  # weight of 1 - mean cosine to the frozen class features
    cfg.TRAINER.KGCOOP.PREC = "fp16"  # fp32 | fp16 | amp | bf16


class KgCoOpStudent(CoOpStudent):
    node = "KGCOOP"
    ignored_keys: tuple[str, ...] = ("bias_vectors", "meta_net.linear1.")  # in official checkpoints, never used there

    def __init__(self, settings: CfgNode, backbone: Backbone, classnames: list[str], *template: str):
        super().__init__(settings, backbone, classnames, *template)
        self.register_buffer("frozen_text", self.frozen_text_features(self.template), persistent=False)  # [C, D]

    def own_terms(self, view: View, outputs: Outputs) -> dict[str, Tensor]:
        frozen = self.frozen_text if outputs.classes is None else self.frozen_text[outputs.classes]
        return {"knowledge": self.settings.W * class_distance(outputs.text_features, frozen)}


@register
class KgCoOp(PromptTrainer):
    """KgCoOp with the labels of the few shots."""

    student_class = KgCoOpStudent
    supervision_class = HardLabels
