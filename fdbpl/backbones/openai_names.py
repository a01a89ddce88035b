"""Default backend: OpenAI's CLIPs by name, and weight files."""

import os
from pathlib import Path

import torch

from fdbpl.backbones.backbone import Backbone
from fdbpl.backbones.openai import load_file, load_openai, sha256_of
from fdbpl.backbones.openai_package import clip_package
from fdbpl.errors import UserError


def load(name: str, device: str, dtype: torch.dtype) -> Backbone:
    """Load a CLIP by name or from a file; raises the errors of `load_openai` and `load_file`."""
    looks_like_file = os.path.exists(os.path.expanduser(name)) or name.endswith((".pt", ".pth", ".safetensors"))
    return load_file(name, device, dtype) if looks_like_file else load_openai(name, device, dtype)


def sha256(name: str) -> str | None:
    """Return the hash of the weights; None for an unknown name."""
    file = os.path.expanduser(name)
    if os.path.isfile(file):
        return sha256_of(file)
    models = clip_package().clip._MODELS
    return models[name].split("/")[-2] if name in models else None


def is_available(name: str) -> bool:
    """Return whether the file exists, or OpenAI's weights are in the cache."""
    try:
        models = clip_package().clip._MODELS
    except UserError:
        return False
    if name not in models:
        return Path(name).expanduser().is_file()
    cache = Path(os.environ.get("FDBPL_CLIP_CACHE", "~/.cache/clip")).expanduser()
    return (cache / os.path.basename(models[name])).is_file()
