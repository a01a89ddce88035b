"""Features of whole images by a frozen image tower: computed by the first run that tests on them, read by all others.

One safetensors file for each (image list, CLIP, precision, transform, batch size, device, threads, processes, torch):
what is read is bit for bit what the reading run would have computed.
"""

import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fdbpl.io.atomic import write_tensors


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
            MachineError: the file cannot be written.
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
