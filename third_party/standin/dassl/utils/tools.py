"""Files, seeds and names."""

import difflib
import json
import os
import random
import warnings

import numpy as np
import torch
from PIL import Image


def mkdir_if_missing(dirname: str) -> None:
    os.makedirs(dirname, exist_ok=True)


def check_isfile(fpath: str) -> bool:
    """Whether the file exists; warns if not."""
    exists = os.path.isfile(fpath)
    if not exists:
        warnings.warn(f"{fpath} is not a file", stacklevel=2)
    return exists


def read_json(fpath: str):
    with open(fpath, encoding="utf-8") as file:
        return json.load(file)


def write_json(obj, fpath: str) -> None:
    mkdir_if_missing(os.path.dirname(fpath) or ".")
    with open(fpath, "w", encoding="utf-8") as file:
        json.dump(obj, file, indent=4, separators=(",", ": "))


def set_random_seed(seed: int) -> None:
    """Seed Python, NumPy and torch, every GPU included."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def read_image(path: str) -> Image.Image:
    """The image as RGB; EXIF orientation is ignored, as upstream does.

    Raises:
        OSError: no file, or not an image.
    """
    if not os.path.exists(path):
        raise OSError(f"expected an image at {path}, found no file")
    return Image.open(path).convert("RGB")


def collect_env_info() -> str:
    """Versions of torch, CUDA, GPU and Pillow, a line each."""
    import platform

    import torchvision

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    lines = {
        "Python version": platform.python_version(),
        "PyTorch version": torch.__version__,
        "Torchvision version": torchvision.__version__,
        "CUDA used to build PyTorch": torch.version.cuda,
        "GPU": gpu,
        "Pillow version": Image.__version__,
        "OS": platform.platform(),
    }
    return "\n".join(f"{name}: {value}" for name, value in lines.items())


def listdir_nohidden(path: str, sort: bool = False) -> list[str]:
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def get_most_similar_str_to_a_from_b(a: str, b: list[str]) -> str:
    return max(b, key=lambda other: difflib.SequenceMatcher(None, a, other).ratio(), default="")


def check_availability(requested: str, available: list[str]) -> None:
    """Raise ValueError with the closest name unless `requested` is available."""
    if requested not in available:
        closest = get_most_similar_str_to_a_from_b(requested, available)
        raise ValueError(f"expected one of {', '.join(available)}, found {requested!r}; did you mean {closest!r}?")


def tolist_if_not(x) -> list:
    return x if isinstance(x, list) else [x]


def download_url(url: str, dst: str, from_gdrive: bool = False) -> None:
    """Fetch `url` to the file `dst`, from Google Drive by gdown."""
    if from_gdrive:
        import gdown

        gdown.download(url, dst, quiet=False)
    else:
        import urllib.request

        urllib.request.urlretrieve(url, dst)
