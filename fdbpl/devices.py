"""Selection of the device that a command runs on, and the abilities of the processor."""

from functools import cache
from pathlib import Path

import torch

from fdbpl.errors import UserError

CPUINFO = Path("/proc/cpuinfo")


def choose_device(name: str = "") -> str:
    """Return the device `name`, "cpu" or "cuda"; "" selects CUDA if it is available.

    Raises:
        UserError: the device is unknown or not available.
    """
    available = torch.cuda.is_available()
    if name not in ("", "cpu", "cuda") or (name == "cuda" and not available):
        why = "torch finds no GPU" if name == "cuda" else "choose cpu or cuda"
        raise UserError(f"Device {name!r} is not available: {why}. Leave the option out to use what is available.")
    return name or ("cuda" if available else "cpu")


@cache
def cpu_bf16() -> str:
    """Return the processor's instructions for bfloat16: "AMX", "AVX512-BF16", or "" without any (or if not on Linux).

    Linux lists them. torch's own queries are private, and `is_mkldnn_bf16_supported` is true for emulation as well.
    """
    try:
        text = CPUINFO.read_text(errors="replace")
    except OSError:
        return ""
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return "AMX" if "amx_bf16" in flags else "AVX512-BF16" if "avx512_bf16" in flags else ""


def with_index(device: str | torch.device) -> torch.device:
    """Return `device`, with "cuda" replaced by the current GPU of the calling thread.

    The current GPU is a property of a thread, and new threads start with GPU 0: work for other threads needs an index.

    Raises:
        UserError: a GPU is requested and torch finds none.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise UserError(f"Device {device} is not available: torch finds no GPU. Use cpu.")
    return torch.device("cuda", torch.cuda.current_device()) if device.index is None else device
