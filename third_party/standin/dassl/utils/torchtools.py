"""Checkpoints and parameters. Checkpoints hold tensors and plain containers only, so that loading runs no code."""

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

    Both appear whole or not at all. `is_best` also writes model-best.pth.tar.
    """
    os.makedirs(save_dir, exist_ok=True)
    if remove_module_from_keys:
        weights = state["state_dict"].items()
        state["state_dict"] = OrderedDict((key.removeprefix("module."), value) for key, value in weights)
    name = model_name or f"model.pth.tar-{state['epoch']}"
    fpath = os.path.join(save_dir, name)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    _write_whole(fpath, buffer.getvalue())
    print(f"Checkpoint saved to {fpath}")
    _write_whole(os.path.join(save_dir, "checkpoint"), f"{name}\n".encode())
    if is_best:
        best = os.path.join(save_dir, "model-best.pth.tar")
        _write_whole(best, buffer.getvalue())
        print(f'Best checkpoint saved to "{best}"')


def _write_whole(path: str, content: bytes) -> None:
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
    """The dictionary in a checkpoint; code in it is never run.

    Raises:
        ValueError: `fpath` is None.
        FileNotFoundError: there is no such file.
    """
    if fpath is None:
        raise ValueError("expected the path of a checkpoint, found None")
    if not os.path.exists(fpath):
        raise FileNotFoundError(f"expected a checkpoint at {fpath}, found no file")
    return torch.load(fpath, map_location=None if torch.cuda.is_available() else "cpu", weights_only=True)


def resume_from_checkpoint(fdir: str, model: nn.Module, optimizer=None, scheduler=None) -> int:
    """Restore from the checkpoint that `fdir`/checkpoint points to; returns the epoch to start from."""
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
    """Copy the entries of a checkpoint whose name and shape fit; warns if none does."""
    state = load_checkpoint(weight_path)
    state = state.get("state_dict", state)
    own = model.state_dict()
    weights = {key.removeprefix("module."): value for key, value in state.items()}
    fitting = {key: value for key, value in weights.items() if key in own and own[key].shape == value.shape}
    left_out = sorted(weights.keys() - fitting.keys())
    own.update(fitting)
    model.load_state_dict(own)
    if not fitting:
        warnings.warn(f"nothing in {weight_path} fits the model by name and shape", stacklevel=2)
    else:
        print(f"Loaded {len(fitting)} of {len(own)} tensors from {weight_path}")
        if left_out:
            print(f"Left out, of other name or shape: {left_out}")


def count_num_param(model: nn.Module | None = None, params=None) -> int:
    """Number of parameters of a module, or of a list of tensors or parameter groups."""
    if model is not None:
        return sum(parameter.numel() for parameter in model.parameters())
    if params is None:
        raise ValueError("expected a model or parameters to count, found neither")
    flat = [tensor for group in params for tensor in (group["params"] if isinstance(group, dict) else [group])]
    return sum(parameter.numel() for parameter in flat)


def open_all_layers(model: nn.Module) -> None:
    """Train everything."""
    model.train()
    model.requires_grad_(True)


def open_specified_layers(model: nn.Module, open_layers) -> None:
    """Train the named children, freeze the others."""
    model = model.module if isinstance(model, nn.DataParallel) else model
    names = [open_layers] if isinstance(open_layers, str) else open_layers
    for name in names:
        if not hasattr(model, name):
            raise ValueError(f"expected a part of the model, found {name!r}")
    for name, child in model.named_children():
        child.train(name in names)
        child.requires_grad_(name in names)


def init_network_weights(model: nn.Module, init_type: str = "normal", gain: float = 0.02) -> None:
    """Initialise convolutions and linear layers: normal, xavier, kaiming or orthogonal."""
    fill = {
        "normal": lambda weight: nn.init.normal_(weight, 0.0, gain),
        "xavier": lambda weight: nn.init.xavier_normal_(weight, gain=gain),
        "kaiming": lambda weight: nn.init.kaiming_normal_(weight, a=0, mode="fan_in"),
        "orthogonal": lambda weight: nn.init.orthogonal_(weight, gain=gain),
    }
    if init_type not in fill:
        raise NotImplementedError(f"expected an initialisation out of {list(fill)}, found {init_type!r}")
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            fill[init_type](module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm2d) and module.weight is not None:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
