"""Selection of the device that a command runs on."""

import torch

from fdbpl.errors import UserError


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
