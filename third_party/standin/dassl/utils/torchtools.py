"""Checkpoints. They hold tensors and plain containers only, so that loading them executes no code."""

import io
import os
import warnings
from collections import OrderedDict

import torch
from torch import nn


def save_checkpoint(
    state: dict, save_dir: str, is_best: bool = False, remove_module_from_keys: bool = True, model_name: str = ""
) -> None:
    """Write `state` to `save_dir`/model.pth.tar-<epoch> (or `model_name`), then the pointer file `checkpoint`.

    Both are written atomically. `is_best` also writes model-best.pth.tar.
    """
    os.makedirs(save_dir, exist_ok=True)
    if remove_module_from_keys:
        weights = state["state_dict"].items()
        state["state_dict"] = OrderedDict((key.removeprefix("module."), value) for key, value in weights)
    name = model_name or f"model.pth.tar-{state['epoch']}"
    fpath = os.path.join(save_dir, name)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    _write_atomically(fpath, buffer.getvalue())
    print(f"Checkpoint saved to {fpath}")
    _write_atomically(os.path.join(save_dir, "checkpoint"), f"{name}\n".encode())
    if is_best:
        best = os.path.join(save_dir, "model-best.pth.tar")
        _write_atomically(best, buffer.getvalue())
        print(f'Best checkpoint saved to "{best}"')


def _write_atomically(path: str, content: bytes) -> None:
    temporary = f"{path}.{os.getpid()}.partial"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def load_checkpoint(fpath: str) -> dict:
    """Read the dictionary of a checkpoint without executing pickled code.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not fpath or not os.path.exists(fpath):
        raise FileNotFoundError(f"There is no checkpoint at {fpath}")
    return torch.load(fpath, map_location=None if torch.cuda.is_available() else "cpu", weights_only=True)


def resume_from_checkpoint(fdir: str, model: nn.Module, optimizer=None, scheduler=None) -> int:
    """Restore the checkpoint that the file `fdir`/checkpoint names, and return the epoch to start from."""
    with open(os.path.join(fdir, "checkpoint"), encoding="utf-8") as file:
        name = file.readline().strip()
    fpath = os.path.join(fdir, name)
    print(f'Loading checkpoint from "{fpath}"')
    state = load_checkpoint(fpath)
    model.load_state_dict(state["state_dict"])
    print("Loaded model weights")
    for what, restored in (("optimizer", optimizer), ("scheduler", scheduler)):
        if restored is not None and state.get(what) is not None:
            restored.load_state_dict(state[what])
            print(f"Loaded {what}")
    print(f"Previous epoch: {state['epoch']}")
    return state["epoch"]


def load_pretrained_weights(model: nn.Module, weight_path: str) -> None:
    """Copy the entries of a checkpoint that match the model in name and shape, and warn if none does."""
    state = load_checkpoint(weight_path)
    state = state.get("state_dict", state)
    own = model.state_dict()
    weights = {key.removeprefix("module."): value for key, value in state.items()}
    matching = {key: value for key, value in weights.items() if key in own and own[key].shape == value.shape}
    unused = sorted(weights.keys() - matching.keys())
    own.update(matching)
    model.load_state_dict(own)
    if not matching:
        warnings.warn(f"No entry of {weight_path} matches the model in name and shape", stacklevel=2)
    else:
        print(f"Loaded {len(matching)} of {len(own)} tensors from {weight_path}")
        if unused:
            print(f"Not loaded, because of another name or shape: {unused}")


def count_num_param(model: nn.Module | None = None, params=None) -> int:
    """Return the number of parameters of a module, or of a list of tensors."""
    return sum(parameter.numel() for parameter in (params if model is None else model.parameters()))
