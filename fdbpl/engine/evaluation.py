"""Logits of a student on the images of a data loader."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from fdbpl.errors import UserError

from .feature_cache import iterate_features
from .student import Classifier, Student


@torch.no_grad()
def compute_logits(
    cfg: CfgNode, student: Student, classify: Classifier, loader: DataLoader,
    parse: Callable[[dict], tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Classify the images of `loader`, whose features come from the cache if possible.

    Args:
        parse: batch of `loader` -> images and labels on the student's device.

    Returns:
        Logits, float32 [N, C], and labels, int64 [N], on the CPU.
    """
    batches = [
        (classify(features).float().cpu(), labels.cpu())
        for features, labels in iterate_features(cfg, student, loader, parse)
    ]
    logits, labels = zip(*batches, strict=True)
    return torch.cat(logits), torch.cat(labels)


def check_finite(logits: Tensor, split: str) -> None:
    """Refuse logits that are NaN or Inf, since an accuracy computed from them would look like a result.

    Raises:
        UserError: there is such a logit.
    """
    if not logits.isfinite().all():
        raise UserError(
            f"The logits on the {split} set contain NaN or Inf. Train with a lower OPTIM.LR or in PREC fp32, or load "
            "another checkpoint"
        )
