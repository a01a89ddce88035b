"""What a test reads: images, or where the image tower is frozen their features, computed once for all runs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler
from tqdm import tqdm
from yacs.config import CfgNode

from fdbpl.distributed import agree, first_before_the_others, is_first, world_size
from fdbpl.image_features import ImageFeatures

from .student import Student, view_of


def extend_cfg(cfg: CfgNode) -> None:
    cfg.FEATURES = CfgNode()
    cfg.FEATURES.ROOT = "output/features"  # image features of test images, shared by all methods and seeds; "" = none


def tested_features(
    cfg: CfgNode, student: Student, loader: DataLoader, parse: Callable[[dict], tuple[Tensor, Tensor]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Unit image features, float32 [B, D], and labels, int64 [B], of each batch of `loader`, on the student's device.

    Args:
        parse: batch of the loader -> images and labels on the device.
    """
    kept = kept_features(cfg, student, loader)
    stored = kept.read() if kept else None
    if agree(stored is not None):
        print(f"Image features looked up: {kept.file}")
        labels = torch.tensor([item.label for item in loader.dataset.data_source])
        for rows in torch.arange(len(stored)).split(loader.batch_size):
            yield stored[rows].to(student.backbone.device), labels[rows].to(student.backbone.device)
        return
    made = []
    for batch in tqdm(loader, desc="Testing", unit="batch", leave=False, disable=None if is_first() else True):
        images, labels = parse(batch)
        features = student.image_features(view_of(images))
        if kept:
            made.append(features.cpu())
        yield features, labels
    if kept:
        with first_before_the_others():
            if is_first():
                kept.write(torch.cat(made))


def kept_features(cfg: CfgNode, student: Student, loader: DataLoader) -> ImageFeatures | None:
    """Where the features of a loader's images are kept; None where the image tower learns, or by wish."""
    dataset, backbone = loader.dataset, student.backbone
    transform = repr(getattr(dataset, "transform", None))
    in_order = isinstance(loader.sampler, SequentialSampler) and hasattr(dataset, "data_source")
    if not (cfg.FEATURES.ROOT and student.frozen_image_tower and in_order) or " at 0x" in transform:
        return None
    images = [str(Path(item.impath).absolute()) for item in dataset.data_source]
    seen_by = {
        "clip": backbone.sha256,
        "precision": [str(backbone.dtype), student.settings.PREC],
        "transform": transform,
        "batch_size": loader.batch_size,
        "device": torch.cuda.get_device_name(backbone.device) if backbone.device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "torch": torch.__version__,
    }
    return ImageFeatures(cfg.FEATURES.ROOT, cfg.DATASET.NAME, images, seen_by)
