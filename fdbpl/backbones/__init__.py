"""Student and teacher CLIPs: OpenAI's by name or file, open_clip names, the embedded demo models."""

from importlib import import_module
from types import ModuleType

import torch

from fdbpl.backbones.backbone import CLIP_MEAN, CLIP_STD, Backbone
from fdbpl.errors import UserError

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "Backbone",
    "load_backbone",
    "resolve_precision",
    "weights_available",
    "weights_sha256",
]

# Prefix of a backbone's name -> module of this package with `load(rest, device, dtype)`, `sha256(rest)` (None if it is
# known only after loading) and `is_available(rest)`, where `rest` follows the colon. Names without a prefix are OpenAI
# names or files.
BACKENDS = {"demo": "demo", "random": "random_init", "open_clip": "open_clip"}

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load_backbone(name: str, device: str = "cpu", precision: str = "fp32") -> Backbone:
    """The CLIP called `name`, frozen and in eval mode.

    Args:
        name: "RN50" ... "ViT-L/14@336px"; a file; "open_clip:ARCH/TAG" or "open_clip:ARCH/FILE";
            "demo:rn-student", "demo:vit-student" or "demo:teacher"; "random:ARCH", an architecture without weights.
        precision: "fp32", "fp16" (GPU only) or "bf16".

    Raises:
        UserError: unknown name, missing or unreadable file, precision the device cannot run.
        SystemFailure: weights that have to be downloaded cannot be.
    """
    dtype = resolve_precision(precision, device)
    if dtype == torch.float32:
        torch.backends.cudnn.allow_tf32 = False  # torch's default rounds the inputs of convolutions to 10 bits
    module, rest = _kind(name)
    return module.load(rest, str(device), dtype)


def weights_sha256(name: str) -> str | None:
    """The `Backbone.sha256` of `load_backbone(name)`, without loading it; None where only loading tells."""
    module, rest = _kind(name)
    return module.sha256(rest)


def weights_available(name: str) -> bool:
    """Whether `load_backbone(name)` would find its weights here; of a file: whether it is there, not what it holds."""
    module, rest = _kind(name)
    return module.is_available(rest)


def _kind(name: str) -> tuple[ModuleType, str]:
    """The module that knows `name`, and the part of it that it is asked about."""
    beginning, colon, rest = name.partition(":")
    if colon and beginning in BACKENDS:
        return import_module(f"{__name__}.{BACKENDS[beginning]}"), rest
    return import_module(f"{__name__}.openai_names"), name


def resolve_precision(precision: str, device: str | torch.device, key: str = "PREC") -> torch.dtype:
    """The dtype of `precision`, refused where `device` cannot run it. Args: key: the setting's name, for the error."""
    if precision not in PRECISIONS:
        raise UserError(f"{key} {precision!r} is no precision. Choose one of {', '.join(PRECISIONS)}")
    if precision == "fp16" and torch.device(device).type == "cpu":
        raise UserError(f"{key} fp16 needs a GPU, and this run uses the CPU. Set {key} fp32 or bf16")
    return PRECISIONS[precision]
