"""KgCoOp: Visual-Language Prompt Tuning with Knowledge-guided Context Optimization (Yao et al., CVPR 2023).

Official file: `trainers/kgcoop.py` of htyao89/KgCoOp; there 4 vectors, 100 epochs, batch 128, lr 0.002, W = 8. CoOp's
context with a penalty on the distance to the frozen class features of the data set's template.
"""

from torch import Tensor
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.engine.batch import TrainBatch
from fdbpl.engine.registry import register
from fdbpl.engine.student import StudentOutput
from fdbpl.engine.supervision.online_teacher import OnlineTeacher
from fdbpl.engine.trainer import PromptTrainer
from fdbpl.losses import class_distance

from .coop import CoOpStudent
from .fdbpl import RegionDistillation


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.KGCOOP = CfgNode()
    cfg.TRAINER.KGCOOP.N_CTX = 4  # context vectors; the words of CTX_INIT override it
    cfg.TRAINER.KGCOOP.CSC = False  # one context per class
    cfg.TRAINER.KGCOOP.CTX_INIT = "a photo of a"  # initial words; "" = random
    cfg.TRAINER.KGCOOP.CLASS_TOKEN_POSITION = "end"  # end | middle | front
    cfg.TRAINER.KGCOOP.W = 8.0  # weight of 1 - mean cosine to the frozen class features
    cfg.TRAINER.KGCOOP.PREC = "fp16"  # fp32 | fp16 | amp | bf16


class KgCoOpStudent(CoOpStudent):
    """CoOp's context and the knowledge-guided loss."""

    cfg_key = "KGCOOP"
    ignored_keys: tuple[str, ...] = ("bias_vectors", "meta_net.linear1.")  # in official checkpoints, but never used

    def __init__(self, settings: CfgNode, backbone: Backbone, classnames: list[str], *template: str):
        super().__init__(settings, backbone, classnames, *template)
        self.register_buffer("frozen_text", self.frozen_text_features(self.template), persistent=False)  # [C, D]

    def regularization_losses(self, batch: TrainBatch, output: StudentOutput) -> dict[str, Tensor]:
        frozen = self.frozen_text if output.classes is None else self.frozen_text[output.classes]
        return {"knowledge": self.settings.W * class_distance(output.text_features, frozen)}


@register
class KgCoOp(PromptTrainer):
    """KgCoOp with few-shot labels."""

    student_class = KgCoOpStudent


@register
class KgCoOp_KDPL(KgCoOp):
    """KgCoOp, supervised by an online teacher (KDPL)."""

    supervision_class = OnlineTeacher


@register
class FDBPL_KgCoOp(RegionDistillation, KgCoOp):
    """KgCoOp, supervised by the region bank (FDBPL)."""
