"""Example of a new supervision: smoothed labels (Szegedy et al., CVPR 2016)."""

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from fdbpl.engine.batch import TrainBatch
from fdbpl.engine.registry import register
from fdbpl.engine.settings import require
from fdbpl.engine.student import StudentOutput
from fdbpl.engine.supervision.hard_labels import HardLabels

from .coop import CoOp
from .maple import MaPLe


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.SMOOTHED = CfgNode()
    cfg.TRAINER.SMOOTHED.SHARE = 0.1  # probability that is spread over all classes


class SmoothedLabels(HardLabels):
    """Cross entropy with probability 1 - SHARE for the label and SHARE spread evenly over all classes."""

    @classmethod
    def check_cfg(cls, cfg: CfgNode) -> None:
        share = cfg.TRAINER.SMOOTHED.SHARE
        require(0 <= share < 1, "TRAINER.SMOOTHED.SHARE", "from 0.0 to below 1.0", share)

    def losses(self, output: StudentOutput, batch: TrainBatch) -> dict[str, Tensor]:
        share = self.cfg.TRAINER.SMOOTHED.SHARE
        return {"cross_entropy": F.cross_entropy(output.logits, batch.labels, label_smoothing=share)}


@register
class CoOp_Smoothed(CoOp):
    """CoOp with smoothed labels."""

    supervision_class = SmoothedLabels


@register
class MaPLe_Smoothed(MaPLe):
    """MaPLe with smoothed labels."""

    supervision_class = SmoothedLabels
