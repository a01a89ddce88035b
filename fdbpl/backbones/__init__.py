"""Student and teacher CLIPs: OpenAI's by name or file, open_clip names, the embedded demo models."""

import os

import torch

from fdbpl.backbones.at_hand import weights_at_hand
from fdbpl.backbones.backbone import CLIP_MEAN, CLIP_STD, Backbone
from fdbpl.errors import UserError

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "Backbone",
    "load_backbone",
    "resolve_precision",
    "weights_at_hand",
    "weights_sha256",
]

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load_backbone(name: str, device: str = "cpu", precision: str = "fp32") -> Backbone:
    """The CLIP called `name`, frozen and in eval mode.

    Args:
        name: "RN50" ... "ViT-L/14@336px"; a file; "open_clip:ARCH/TAG" or "open_clip:ARCH/FILE";
            "demo:rn-student", "demo:vit-student" or "demo:teacher"; "random:ARCH", an architecture without weights.
        precision: "fp32", "fp16" (GPU only) or "bf16".

    Raises:
        UserError: unknown name, missing or unreadable file, precision the device cannot run.
        MachineError: weights that have to be downloaded cannot be.
    """
    dtype = resolve_precision(precision, device)
    if name.startswith("demo:"):
        from fdbpl.backbones import demo, openai

        which = name.removeprefix("demo:")
        state = demo.load_state_dict(which)
        return openai.wrap(openai.build_clip(state, name), name, demo.sha256(which), device, dtype)
    if name.startswith("random:"):
        from fdbpl.backbones.untrained import load_untrained

        return load_untrained(name.removeprefix("random:"), str(device), dtype)
    if name.startswith("open_clip:"):
        from fdbpl.backbones.open_clip import load_open_clip

        return load_open_clip(name, device, dtype)
    from fdbpl.backbones.openai import load_file, load_openai

    looks_like_file = os.path.exists(os.path.expanduser(name)) or name.endswith((".pt", ".pth", ".safetensors"))
    return load_file(name, device, dtype) if looks_like_file else load_openai(name, device, dtype)


def weights_sha256(name: str) -> str | None:
    """The `Backbone.sha256` of `load_backbone(name)`, without loading it; None where only loading tells."""
    if name.startswith("demo:"):
        from fdbpl.backbones import demo

        return demo.sha256(name.removeprefix("demo:"))
    if name.startswith("random:"):
        from fdbpl.backbones import untrained

        return untrained.sha256(name.removeprefix("random:"))
    if name.startswith("open_clip:"):
        return None
    from fdbpl.backbones.openai import sha256_of
    from fdbpl.backbones.openai_package import clip_package

    file = os.path.expanduser(name)
    if os.path.isfile(file):
        return sha256_of(file)
    models = clip_package().clip._MODELS
    return models[name].split("/")[-2] if name in models else None


def resolve_precision(precision: str, device: str | torch.device) -> torch.dtype:
    """The dtype of `precision`, refused where `device` cannot run it."""
    if precision not in PRECISIONS:
        raise UserError(f"expected a precision of {', '.join(PRECISIONS)}, found {precision!r}; choose one of these")
    if precision == "fp16" and torch.device(device).type == "cpu":
        raise UserError("expected a GPU for precision fp16, found a CPU; use fp32 (PREC fp32 on the command line)")
    return PRECISIONS[precision]
