"""A supervision that the house does not know: smoothed labels (Szegedy et al., CVPR 2016), one file in trainers/."""

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from fdbpl.engine.batch import View
from fdbpl.engine.registry import register
from fdbpl.engine.settings import require
from fdbpl.engine.student import Outputs
from fdbpl.engine.supervision.hard_labels import HardLabels
from fdbpl.engine.trainer import PromptTrainer

from .coop import CoOp
from .maple import MaPLe


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.SMOOTHED = CfgNode()
    cfg.TRAINER.SMOOTHED.SHARE = 0.1  # of the probability, spread over all classes


class SmoothedLabels(HardLabels):
    """Cross entropy with 1 - SHARE on the label and SHARE on all classes alike; batches are read as with labels."""

    @classmethod
    def check_cfg(cls, cfg: CfgNode) -> None:
        share = cfg.TRAINER.SMOOTHED.SHARE
        require(0 <= share < 1, "TRAINER.SMOOTHED.SHARE", "from 0.0 to below 1.0", share)

    def terms(self, outputs: Outputs, view: View) -> dict[str, Tensor]:
        share = self.cfg.TRAINER.SMOOTHED.SHARE
        return {"cross_entropy": F.cross_entropy(outputs.logits, view.labels, label_smoothing=share)}


def with_smoothed_labels(method: type[PromptTrainer]) -> type[PromptTrainer]:
    """`method`, supervised by smoothed labels; registered as <method>_Smoothed."""
    doc = f"{method.__name__}, supervised by smoothed labels."
    own = {"supervision_class": SmoothedLabels, "__doc__": doc}
    return register(type(f"{method.__name__}_Smoothed", (method,), own))


for _method in (CoOp, MaPLe):
    with_smoothed_labels(_method)
