"""Logits of a student on the images of a data loader, and their scores."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from fdbpl import scores
from fdbpl.errors import UserError
from fdbpl.io.atomic import write_bytes

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


def score(logits: Tensor, labels: Tensor, classnames: list[str], file: Path | None = None) -> dict:
    """Return the scores of logits [N, C], as `fdbpl.scores.summarize` does.

    Args:
        file: .npz to write: confusion matrix, class names, and label, prediction and confidence of each image.

    Raises:
        SystemFailure: the file cannot be written.
    """
    found = scores.outcomes(logits.numpy(), labels.numpy())
    if file:
        content = BytesIO()
        np.savez_compressed(
            content,
            confusion=scores.confusion_matrix(found.labels, found.predictions, len(classnames)),
            classnames=np.array(classnames),
            labels=found.labels.astype(np.int32),
            predictions=found.predictions.astype(np.int32),
            confidences=found.confidences.astype(np.float32),
        )
        write_bytes(file, content.getvalue())
    return scores.summarize(found, len(classnames))
