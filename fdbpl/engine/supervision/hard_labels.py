"""Supervision by labels: cross entropy."""

import torch.nn.functional as F
from torch import Tensor

from fdbpl.distributed import shard

from ..batch import View
from ..student import Outputs
from .base import Supervision


class HardLabels(Supervision):
    """Cross entropy with the labels of the few shots, as in CoOp."""

    def read(self, batch: dict) -> View:
        return View(
            images=shard(batch["img"]).to(self.device, non_blocking=True),
            labels=batch["label"].to(self.device, non_blocking=True),
            total=len(batch["img"]),
        )

    def terms(self, outputs: Outputs, view: View) -> dict[str, Tensor]:
        return {"cross_entropy": F.cross_entropy(outputs.logits, view.labels)}
