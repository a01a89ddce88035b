"""What a test reads: images, or where the image tower is frozen their features, computed once for all runs."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler
from tqdm import tqdm
from yacs.config import CfgNode

from fdbpl.distributed import broadcast_from_main, is_main_process, main_process_first, world_size
from fdbpl.io.atomic import write_tensors

from .student import Student, view_of


class ImageFeatures:
    """The features of one list of images, as one CLIP sees them. A file that is not what was written is made again.

    Args:
        root: folder of all such files.
        dataset: name of a folder below it.
        images: N image files.
        seen_by: what else the features depend on, as plain values: the CLIP and its hash, transform, precision ...
    """

    def __init__(self, root: str | Path, dataset: str, images: list[str], seen_by: dict):
        self.images = images
        self.identity = json.dumps([seen_by, images], sort_keys=True)
        digest = hashlib.sha256(self.identity.encode()).hexdigest()
        self.file = Path(root, dataset, f"{digest[:16]}.safetensors")

    def read(self) -> Tensor | None:
        """float32 [N, D], backed by the file; None where there is none, or where an image has changed since."""
        try:
            with safe_open(self.file, "pt") as content:
                metadata = content.metadata() or {}
                if metadata.get("identity") != self.identity or metadata.get("images") != self._stamps():
                    return None
                features = content.get_tensor("features")
                whole = features.dtype == torch.float32 and metadata.get("sha256") == _sha256(features)
                return features if whole else None
        except (FileNotFoundError, SafetensorError, OSError):  # absent, or cut off by a fault: made again
            return None

    def write(self, features: Tensor) -> None:
        """Keep `features`, [N, D].

        Raises:
            SystemFailure: the file cannot be written.
        """
        features = features.to(torch.float32)
        metadata = {"identity": self.identity, "images": self._stamps(), "sha256": _sha256(features)}
        write_tensors(self.file, {"features": features}, metadata)

    def _stamps(self) -> str:
        """Size and time of the last change of each file."""
        found = [os.stat(image) for image in self.images]
        return json.dumps([[stat.st_size, stat.st_mtime_ns] for stat in found])


def _sha256(features: Tensor) -> str:
    """Of shape, dtype and values."""
    sha = hashlib.sha256(f"{tuple(features.shape)}{features.dtype}".encode())
    sha.update(features.detach().cpu().contiguous().numpy())
    return sha.hexdigest()


def tested_features(
    cfg: CfgNode, student: Student, loader: DataLoader, parse: Callable[[dict], tuple[Tensor, Tensor]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Unit image features, float32 [B, D], and labels, int64 [B], of each batch of `loader`, on the student's device.

    Args:
        parse: batch of the loader -> images and labels on the device.
    """
    kept = kept_features(cfg, student, loader)
    stored = kept.read() if kept else None
    if broadcast_from_main(stored is not None):
        print(f"Image features looked up: {kept.file}")
        labels = torch.tensor([item.label for item in loader.dataset.data_source])
        for rows in torch.arange(len(stored)).split(loader.batch_size):
            yield stored[rows].to(student.backbone.device), labels[rows].to(student.backbone.device)
        return
    made = []
    for batch in tqdm(loader, desc="Testing", unit="batch", leave=False, disable=None if is_main_process() else True):
        images, labels = parse(batch)
        features = student.image_features(view_of(images))
        if kept:
            made.append(features.cpu())
        yield features, labels
    if kept:
        with main_process_first():
            if is_main_process():
                kept.write(torch.cat(made))


def kept_features(cfg: CfgNode, student: Student, loader: DataLoader) -> ImageFeatures | None:
    """Where the features of a loader's images are kept; None where the image tower learns, or by wish."""
    dataset, backbone = loader.dataset, student.backbone
    transform = repr(getattr(dataset, "transform", None))
    in_order = isinstance(loader.sampler, SequentialSampler) and hasattr(dataset, "data_source")
    if not (cfg.TEST.FEATURE_CACHE_DIR and student.frozen_image_tower and in_order) or " at 0x" in transform:
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
    return ImageFeatures(cfg.TEST.FEATURE_CACHE_DIR, cfg.DATASET.NAME, images, seen_by)
