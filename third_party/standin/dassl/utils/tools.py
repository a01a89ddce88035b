"""Registries, files and seeds."""

import difflib
import json
import os
import platform
import random
import warnings
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image


class Registry:
    """Classes or functions by name, added by a decorator.

    TRAINER_REGISTRY = Registry("TRAINER")

    @TRAINER_REGISTRY.register()
    class CoOp(TrainerX): ...
    """

    def __init__(self, name: str):
        self._name = name
        self._objects: dict[str, object] = {}

    def register(self, obj=None, force: bool = False) -> Callable:
        """Register `obj` under its `__name__`, or return a decorator that does so.

        Raises:
            KeyError: the name is registered already, and `force` is not set.
        """
        if obj is None:
            return lambda decorated: self.register(decorated, force)
        name = obj.__name__
        if name in self._objects and not force:
            raise KeyError(f"{name!r} is already registered in the {self._name} registry")
        self._objects[name] = obj
        return obj

    def get(self, name: str):
        if name not in self._objects:
            raise KeyError(f"{name!r} is not registered in the {self._name} registry")
        return self._objects[name]

    def registered_names(self) -> list[str]:
        return list(self._objects)


def check_availability(requested: str, available: list[str]) -> None:
    """Raise ValueError, with the most similar name, if `requested` is not available."""
    if requested not in available:
        closest = difflib.get_close_matches(requested, available, n=1, cutoff=0.0)
        raise ValueError(f"Unknown name {requested!r}; did you mean {closest}? Known names: {', '.join(available)}")


def mkdir_if_missing(dirname: str) -> None:
    os.makedirs(dirname, exist_ok=True)


def check_isfile(fpath: str) -> bool:
    """Return whether the file exists, and warn if it does not."""
    exists = os.path.isfile(fpath)
    if not exists:
        warnings.warn(f"{fpath} is not a file", stacklevel=2)
    return exists


def listdir_nohidden(path: str, sort: bool = False) -> list[str]:
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def read_json(fpath: str):
    with open(fpath, encoding="utf-8") as file:
        return json.load(file)


def write_json(obj, fpath: str) -> None:
    mkdir_if_missing(os.path.dirname(fpath) or ".")
    with open(fpath, "w", encoding="utf-8") as file:
        json.dump(obj, file, indent=4, separators=(",", ": "))


def read_image(path: str) -> Image.Image:
    """Read an image as RGB. As in upstream, the EXIF orientation is ignored.

    Raises:
        OSError: there is no file, or it is not an image.
    """
    return Image.open(path).convert("RGB")


def set_random_seed(seed: int) -> None:
    """Seed Python, NumPy and torch, including all GPUs."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def collect_env_info() -> str:
    """Return the versions of Python, torch, CUDA and Pillow and the name of the GPU, one per line."""
    import torchvision  # the import is slow

    lines = {
        "Python version": platform.python_version(),
        "PyTorch version": torch.__version__,
        "Torchvision version": torchvision.__version__,
        "CUDA used to build PyTorch": torch.version.cuda,
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "Pillow version": Image.__version__,
        "OS": platform.platform(),
    }
    return "\n".join(f"{name}: {value}" for name, value in lines.items())


def tolist_if_not(x) -> list:
    return x if isinstance(x, list) else [x]
