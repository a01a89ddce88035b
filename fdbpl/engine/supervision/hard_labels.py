"""Supervision by labels."""

import torch.nn.functional as F
from torch import Tensor

from fdbpl.distributed import shard

from ..batch import TrainBatch
from ..student import StudentOutput
from .base import Supervision


class HardLabels(Supervision):
    """Cross entropy with the labels of the few-shot images, as in CoOp."""

    def read(self, batch: dict) -> TrainBatch:
        return TrainBatch(
            images=shard(batch["img"]).to(self.device, non_blocking=True),
            labels=batch["label"].to(self.device, non_blocking=True),
            total=len(batch["img"]),
        )

    def losses(self, output: StudentOutput, batch: TrainBatch) -> dict[str, Tensor]:
        return {"cross_entropy": F.cross_entropy(output.logits, batch.labels)}
