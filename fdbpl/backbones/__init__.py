"""CLIPs behind one interface: OpenAI's by name or file, open_clip's, the demo models, random weights."""

from collections.abc import Collection
from importlib import import_module
from types import ModuleType

import torch

from fdbpl.backbones.backbone import CLIP_MEAN, CLIP_STD, Backbone
from fdbpl.devices import cpu_bf16
from fdbpl.errors import UserError

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "Backbone",
    "choose_precision",
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
# prefixes of teachers without an automatic precision: embeddings of the small demo models deviate more than
# verification tolerates, and runs compute in the precision that they were trained in
IN_FLOAT32 = ("demo:", "run:")


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


def choose_precision(
    precision: str, device: str | torch.device, stored: Collection[str] = (), key: str = "PREC", name: str = ""
) -> str:
    """Return the precision that `device` uses for the setting `precision`; a line says so if it is not obvious.

    On a CPU without instructions for bfloat16, "bf16" becomes "fp32". "auto" is the precision of stored outputs (the
    most exact one that the device supports); without any it is "bf16" on a CPU with these instructions, else "fp32".

    Args:
        stored: precisions of outputs that exist already; bfloat16 ones can be read, and extended slowly, on any CPU.
        key: name of the setting, for the printed line.
        name: of the model; "auto" is always "fp32" for those of `IN_FLOAT32`.
    """
    on_cpu = torch.device(device).type == "cpu"
    instructions = cpu_bf16() if on_cpu else ""
    if precision == "bf16" and on_cpu and not instructions and "bf16" not in stored:
        print(f"{key} bf16: this CPU has neither AMX nor AVX512-BF16, so fp32 is used")
        return "fp32"
    if precision != "auto":
        return precision
    if name.startswith(IN_FLOAT32):
        return "fp32"
    preferred = "bf16" if instructions else "fp32"
    usable = [each for each in PRECISIONS if each in stored and not (on_cpu and each == "fp16")]
    chosen = (usable or [preferred])[0]
    if {chosen, preferred} != {"fp32"}:
        print(f"{key} auto: {chosen} ({'as in the existing bank' if usable else f'this CPU has {instructions}'})")
    return chosen
