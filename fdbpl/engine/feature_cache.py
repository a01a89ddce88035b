"""Cache of the test images' features by a frozen image tower, shared by the tests of all methods and seeds.

There is one safetensors file for each combination of image list, CLIP, precision, transform, batch size, device,
threads, processes and torch version, so that cached features are bitwise equal to computed ones.
"""

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
from fdbpl.io.image_reading import STORED
from fdbpl.io.tensor_files import write_tensors

from .image_dataset import decoding_of
from .student import Student, batch_from_images


class FeatureCache:
    """File with the features of a list of images. A missing, broken or outdated file is written again.

    Args:
        root: folder of all such files.
        dataset: name of a folder below it.
        images: N image files.
        dependencies: everything else that the features depend on, as plain values: hash of the CLIP, transform ...
    """

    def __init__(self, root: str | Path, dataset: str, images: list[str], dependencies: dict):
        self.images = images
        self.identity = json.dumps([dependencies, images], sort_keys=True)
        digest = hashlib.sha256(self.identity.encode()).hexdigest()
        self.file = Path(root, dataset, f"{digest[:16]}.safetensors")

    def read(self) -> Tensor | None:
        """Return the features, float32 [N, D]; None if there is no valid file or if an image has changed since."""
        try:
            with safe_open(self.file, "pt") as content:
                metadata = content.metadata() or {}
                if metadata.get("identity") != self.identity or metadata.get("images") != self._stamps():
                    return None
                features = content.get_tensor("features")
                whole = features.dtype == torch.float32 and metadata.get("sha256") == _sha256(features)
                return features if whole else None
        except (FileNotFoundError, SafetensorError, OSError):  # missing or truncated
            return None

    def write(self, features: Tensor) -> None:
        """Write `features`, [N, D].

        Raises:
            SystemFailure: the file cannot be written.
        """
        features = features.to(torch.float32)
        metadata = {"identity": self.identity, "images": self._stamps(), "sha256": _sha256(features)}
        write_tensors(self.file, {"features": features}, metadata)

    def _stamps(self) -> str:
        """Return the size and modification time of each image file."""
        stats = [os.stat(image) for image in self.images]
        return json.dumps([[stat.st_size, stat.st_mtime_ns] for stat in stats])


def _sha256(features: Tensor) -> str:
    """Hash shape, dtype and values."""
    sha = hashlib.sha256(f"{tuple(features.shape)}{features.dtype}".encode())
    sha.update(features.detach().cpu().contiguous().numpy())
    return sha.hexdigest()


def iterate_features(
    cfg: CfgNode, student: Student, loader: DataLoader, parse: Callable[[dict], tuple[Tensor, Tensor]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield unit image features, float32 [B, D], and labels, int64 [B], of each batch, from the cache if possible.

    Args:
        parse: batch of `loader` -> images and labels on the student's device.
    """
    cache = find_cache(cfg, student, loader)
    stored = cache.read() if cache else None
    if broadcast_from_main(stored is not None):
        assert cache is not None and stored is not None
        print(f"Image features looked up: {cache.file}")
        labels = torch.tensor([item.label for item in loader.dataset.data_source])
        for rows in torch.arange(len(stored)).split(loader.batch_size):
            yield stored[rows].to(student.backbone.device), labels[rows].to(student.backbone.device)
        return
    computed = []
    for batch in tqdm(loader, desc="Testing", unit="batch", leave=False, disable=None if is_main_process() else True):
        images, labels = parse(batch)
        features = student.image_features(batch_from_images(images))
        if cache:
            computed.append(features.cpu())
        yield features, labels
    if cache:
        with main_process_first():
            if is_main_process():
                cache.write(torch.cat(computed))


def find_cache(cfg: CfgNode, student: Student, loader: DataLoader) -> FeatureCache | None:
    """Return the cache of a loader's images; None if it is switched off or the image tower has trained prompts."""
    dataset, backbone = loader.dataset, student.backbone
    transform = repr(getattr(dataset, "transform", None))
    in_order = isinstance(loader.sampler, SequentialSampler) and hasattr(dataset, "data_source")
    if not (cfg.TEST.FEATURE_CACHE_DIR and student.frozen_image_tower and in_order) or " at 0x" in transform:
        return None
    images = [str(Path(item.impath).absolute()) for item in dataset.data_source]
    dependencies = {
        "clip": backbone.sha256,
        "precision": [str(backbone.dtype), student.settings.PREC],
        "transform": transform,
        "batch_size": loader.batch_size,
        "device": torch.cuda.get_device_name(backbone.device) if backbone.device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "torch": torch.__version__,
    }
    if decoding_of(cfg) != STORED:
        dependencies["decoding"] = str(decoding_of(cfg))
    return FeatureCache(cfg.TEST.FEATURE_CACHE_DIR, cfg.DATASET.NAME, images, dependencies)
