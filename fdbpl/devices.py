"""The device that a command runs on."""

import torch

from fdbpl.errors import UserError


def choose_device(name: str = "") -> str:
    """The device called `name`, "cpu" or "cuda"; "" stands for CUDA where there is a GPU.

    Raises:
        UserError: no such device here.
    """
    there = torch.cuda.is_available()
    if name not in ("", "cpu", "cuda") or (name == "cuda" and not there):
        found = f"{name!r}, and {'a' if there else 'no'} GPU that torch can use"
        raise UserError(f"expected a device of cpu, cuda, found {found}; leave it out to use what is there")
    return name or ("cuda" if there else "cpu")


def with_index(device: str | torch.device) -> torch.device:
    """`device`, where "cuda" becomes the GPU of the calling thread.

    The current GPU belongs to a thread: a new thread starts with GPU 0, whichever one its process trains on. Work that
    is handed to threads therefore names its GPU.

    Raises:
        UserError: a GPU, and torch can use none.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise UserError(f"expected a GPU for the device {device}, found none; use cpu")
    return torch.device("cuda", torch.cuda.current_device()) if device.index is None else device
