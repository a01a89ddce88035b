"""A small Caltech101, packed as Caltech distributes it."""

import io
import json
import tarfile
import zipfile

import numpy as np
from PIL import Image

CLASSES = ["crab", "dollar bill", "emu"]


def photograph(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (200, 240, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def small_caltech101() -> tuple[dict[str, bytes], bytes]:
    """Images by path, and a split file of 3 classes with 3 training, 1 validation and 2 test images each."""
    images, split = {}, {"train": [], "val": [], "test": []}
    for label, name in enumerate(CLASSES):
        for number, part in enumerate(["train"] * 3 + ["val"] + ["test"] * 2):
            path = f"{name.replace(' ', '_')}/image_{number:04}.jpg"
            images[path] = photograph(10 * label + number)
            split[part].append([path, label, name])
    return images, json.dumps(split).encode()


def packed(images: dict[str, bytes], padding: int = 0) -> bytes:
    """A zip file that holds a tar.gz file of the image folder, and `padding` zero bytes."""
    inner, outer = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        for path, content in images.items():
            info = tarfile.TarInfo(f"101_ObjectCategories/{path}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("caltech-101/101_ObjectCategories.tar.gz", inner.getvalue())
        archive.writestr("__MACOSX/caltech-101/._Annotations.tar", bytes(padding))
    return outer.getvalue()
