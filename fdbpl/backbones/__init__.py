"""CLIPs behind one interface: OpenAI's by name or file, open_clip's, the demo models, random weights."""

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

# Prefix of a name -> module that loads such backbones. It defines `load(rest, device, dtype)`, `sha256(rest)` (None if
# only loading computes it) and `is_available(rest)`, where `rest` follows the colon. Modules are imported when needed.
BACKENDS = {
    "demo": "fdbpl.backbones.demo",
    "random": "fdbpl.backbones.random_init",
    "open_clip": "fdbpl.backbones.open_clip",
    "run": "fdbpl.engine.prompted_teacher",
}
DEFAULT_BACKEND = "fdbpl.backbones.openai_names"  # names without a prefix

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load_backbone(name: str, device: str = "cpu", precision: str = "fp32") -> Backbone:
    """Load the CLIP called `name`, frozen and in eval mode.

    Args:
        name: "RN50" ... "ViT-L/14@336px"; a file; "open_clip:ARCH/TAG" or "open_clip:ARCH/FILE";
            "demo:rn-student", "demo:vit-student" or "demo:teacher"; "random:ARCH", an architecture with random weights;
            "run:FOLDER", a finished run with its prompts.
        precision: "fp32", "fp16" (GPU only) or "bf16".

    Raises:
        UserError: unknown name, missing or unreadable file, or a precision that the device does not support.
        SystemFailure: weights cannot be downloaded.
    """
    dtype = resolve_precision(precision, device)
    if dtype == torch.float32:
        torch.backends.cudnn.allow_tf32 = False  # by default cuDNN rounds the inputs of convolutions to 10 bits
    module, rest = _backend(name)
    return module.load(rest, str(device), dtype)


def weights_sha256(name: str) -> str | None:
    """Return the `Backbone.sha256` of `load_backbone(name)` without loading it; None if only loading computes it."""
    module, rest = _backend(name)
    return module.sha256(rest)


def weights_available(name: str) -> bool:
    """Return whether the weights of `load_backbone(name)` are on this machine; a file's content is not checked."""
    module, rest = _backend(name)
    return module.is_available(rest)


def _backend(name: str) -> tuple[ModuleType, str]:
    """Return the module that loads `name`, and the part of the name that is passed to it."""
    prefix, colon, rest = name.partition(":")
    if colon and prefix in BACKENDS:
        return import_module(BACKENDS[prefix]), rest
    return import_module(DEFAULT_BACKEND), name


def resolve_precision(precision: str, device: str | torch.device, key: str = "PREC") -> torch.dtype:
    """Return the dtype of `precision`.

    Args:
        key: name of the setting, for error messages.

    Raises:
        UserError: unknown precision, or one that `device` does not support.
    """
    if precision not in PRECISIONS:
        raise UserError(f"Unknown {key} {precision!r}: choose one of {', '.join(PRECISIONS)}.")
    if precision == "fp16" and torch.device(device).type == "cpu":
        raise UserError(f"{key} fp16 needs a GPU, and this run uses the CPU. Set {key} to fp32 or bf16.")
    return PRECISIONS[precision]
